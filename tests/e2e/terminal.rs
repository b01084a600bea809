//! What is printed on a terminal: colours where they are wanted, lines as wide as it is, and that
//! somebody who waits is told so.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use fake_nvml::state::Rule;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use simnode::node::{Node, PluginOptions};

use crate::rig::{Rig, eight_h100s, plugin};

/// The colours (ECMA-48, SGR) that the program uses.
const COLOURS: [&str; 8] =
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31;1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m"];

/// All that a command writes on a terminal of so many columns.
fn on_terminal(mut command: Command, columns: u16) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = open(name.as_c_str(), flags, Mode::empty()).unwrap();
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    let stream = || Stdio::from(terminal.try_clone().unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(stream()).stderr(stream()).spawn().unwrap();
    drop((command, terminal));
    let (mut ours, mut text, mut part) = (File::from(ours), Vec::new(), [0; 4096]);
    // The end of what is written on a terminal is an error (EIO on Linux).
    while let Ok(count @ 1..) = ours.read(&mut part) {
        text.extend_from_slice(&part[..count]);
    }
    child.wait().unwrap();
    // The terminal ends lines with two characters.
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

fn printed(
    node: &Node,
    options: &PluginOptions,
    arguments: &[&str],
    env: &[(&str, &str)],
    columns: u16,
) -> String {
    let options = arguments.iter().fold(options.clone(), |options, word| options.arg(*word));
    let options = env.iter().fold(options, |options, (name, value)| options.env(*name, *value));
    on_terminal(options.std_command(node), columns)
}

fn without_colours(text: &str) -> String {
    COLOURS.iter().fold(text.to_owned(), |text, code| text.replace(code, ""))
}

/// A word that is wider than the terminal has a line of its own.
fn fits(line: &str, columns: usize) -> bool {
    line.chars().count() <= columns || line.split_whitespace().count() == 1
}

/// It has colours on a terminal that has them, and the same text without them on one that has not,
/// for somebody who wants none, and in lines of its width.
fn is_painted_where_that_is_wanted(node: &Node, arguments: &[&str], paint: &str) {
    let with = |env: &[(&str, &str)], columns| printed(node, &plugin(), arguments, env, columns);
    let coloured = with(&[("TERM", "xterm-256color")], 70);
    assert!(coloured.contains(paint), "{coloured:?}");
    let text = without_colours(&coloured);
    assert!(!text.contains('\x1b'), "another colour: {text:?}");
    assert!(text.lines().all(|line| fits(line, 70)), "{text}");
    assert!(text.lines().any(|line| line.chars().count() > 50), "{text}");
    let unset: &[(&str, &str)] = &[("TERM", "xterm"), ("NO_COLOR", "")];
    assert!(with(unset, 70).contains(paint), "an empty NO_COLOR is none");
    for env in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = with(&[("TERM", "xterm"), env], 70);
        assert!(!plain.contains('\x1b'), "{env:?}: {plain:?}");
        // How long it lasts may differ by a second.
        assert_eq!(plain.lines().count(), text.lines().count(), "{env:?}: {plain}\n{text}");
    }
    let told = with(&[("TERM", "dumb"), ("COLUMNS", "50")], 120);
    assert!(told.lines().all(|line| fits(line, 50)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_doctor_are_coloured_for_who_wants_it_and_as_wide_as_the_terminal() {
    let node = eight_h100s();
    let config = node.kubelet();
    let rig = Rig::on(node, config, &plugin(), 8).await;
    rig.xid_until_heard(3, 95).await;
    tokio::task::block_in_place(|| {
        is_painted_where_that_is_wanted(&rig.node, &["status"], "\x1b[31;1mPROBLEM\x1b[0m");
        is_painted_where_that_is_wanted(&rig.node, &["doctor"], "\x1b[31;1mPROBLEM\x1b[0m");
    });
}

#[test]
fn the_log_is_coloured_for_who_wants_it() {
    let node = eight_h100s();
    let refused = ["--nvml-library", "/nowhere", "--fail-on-init-error=true"];
    let with = |env: &[(&str, &str)]| printed(&node, &plugin(), &refused, env, 100);
    let coloured = with(&[("TERM", "xterm")]);
    assert!(coloured.contains("\x1b[31mERROR\x1b[0m"), "{coloured:?}");
    for env in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = with(&[("TERM", "xterm"), env]);
        assert!(plain.contains("level=ERROR") && !plain.contains('\x1b'), "{env:?}: {plain:?}");
    }
}

#[test]
fn the_doctor_says_that_it_waits_to_who_looks_at_a_terminal() {
    const WAITS: &str = "waiting for the driver, the kubelet and the plugin";
    let node = eight_h100s();
    node.edit(|state| state.rules.push(Rule::hang("nvmlInit_v2"))).unwrap();
    let arguments = ["doctor", "--driver-timeout", "2"];
    let text = printed(&node, &plugin(), &arguments, &[("TERM", "xterm")], 100);
    let told = format!("\r{WAITS}: 1 s ...");
    assert!(text.contains(&told), "{text:?}");
    // The report begins on a line of its own.
    let (_, after) = text.rsplit_once(" s ...").unwrap();
    assert!(after.starts_with('\n') && after.contains("nvmlInit_v2 has not returned"), "{after}");
    let dumb = printed(&node, &plugin(), &arguments, &[("TERM", "dumb")], 100);
    assert!(dumb.starts_with(&format!("{WAITS} ...\n")), "{dumb:?}");
    assert!(dumb.matches(WAITS).count() == 1 && !dumb.contains('\r'), "{dumb:?}");
    // To a file or a pipe nothing of it is written.
    let options = arguments.iter().fold(plugin(), |options, word| options.arg(*word));
    let output = options.std_command(&node).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
