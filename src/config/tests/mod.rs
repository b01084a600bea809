//! Claims about configuration, table by table.

mod check;
mod command_line;
mod memory_limits;
mod named;
mod precedence;
mod properties;
mod readme;
mod reference;
mod reload;
mod report;
mod schema;
mod section_1_1;
mod yaml;

use device::allocation::{AllocationPolicy, SharedPolicy, WholeGpuPolicy};
use device::injection::DeviceListStrategy;
use device::layout::MigStrategy;
use device::layout::filter::{DeviceFilter, Term};
use device::layout::sharing::{DeviceRef, Replication, Selection, Sharing};

use super::*;
use crate::observe::http::Address;
use crate::observe::log::LogFormat;

/// What was written where.
#[derive(Default)]
struct Written<'a> {
    flags: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
}

impl Written<'_> {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let arguments =
            std::iter::once("gpu-device-plugin").chain(self.flags.iter().copied()).map(Into::into);
        let environment = |name: &str| {
            self.environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let sources = crate::cli::Invocation::parse(arguments, environment).unwrap().sources;
        let file = self.file.map(|text| FileText {
            path: "/config/config.yaml".into(),
            content: Ok(text.as_bytes().to_vec()),
        });
        load(&sources, file.as_ref(), Purpose::Serve)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|refused| panic!("{refused}")).config
    }

    /// The mistakes, one a line.
    fn mistakes(&self) -> Vec<String> {
        let report = self.load().expect_err("a refusal").0;
        report.mistakes.iter().map(|mistake| report.line(mistake)).collect()
    }
}

fn with_file(text: &str) -> Written<'_> {
    Written { file: Some(text), ..Written::default() }
}

/// The configuration of a file that is to give no warning.
fn quiet(text: &str) -> Config {
    let loaded = with_file(text).load().unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(loaded.warnings().collect::<Vec<_>>(), Vec::<String>::new());
    loaded.config
}

fn warnings(text: &str) -> Vec<String> {
    with_file(text).load().unwrap_or_else(|refused| panic!("{refused}")).warnings().collect()
}
