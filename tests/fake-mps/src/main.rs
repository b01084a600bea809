//! The programs as one executable, which is the one whose name it is started by. [`fake_mps`] says
//! what they do.

use std::process::ExitCode;

use fake_mps::Invocation;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let path = words.next().unwrap_or_default();
    let code = fake_mps::run(Invocation {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        arguments: words.collect(),
        environment: std::env::vars().collect(),
        input: Box::new(std::io::stdin()),
        output: Box::new(std::io::stdout()),
        error: Box::new(std::io::stderr()),
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
