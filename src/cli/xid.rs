//! `xid`: explains the number of an error that the driver reports.

use std::fmt::Write;
use std::process::ExitCode;

use device::health::{Xid, XidClass, XidEffect};

use super::print;

/// The exit code for a number that is not in the catalogue.
const UNKNOWN: u8 = 1;

/// Prints what one Xid means, or a table of all, as Markdown where that is asked for.
pub fn xid(number: Option<u32>, markdown: bool) -> ExitCode {
    match number.map(Xid) {
        Some(xid) => print(&explained(xid), if is_known(xid) { 0 } else { UNKNOWN }),
        None if markdown => print(&reference(), 0),
        None => print(&table(), 0),
    }
}

fn is_known(xid: Xid) -> bool {
    Xid::known().any(|known| known == xid)
}

fn explained(xid: Xid) -> String {
    let class = xid.class();
    let (new, old) = (class.effect(true), class.effect(false));
    let mut lines = vec![
        ("class", format!("{}: {}", class.as_str(), class.meaning())),
        ("effect", format!("driver 565 and later: {}", text(new))),
        ("", format!("older drivers: {}", text(old))),
    ];
    if let Some(remedy) = remedy(class) {
        lines.push(("to do", remedy.to_owned()));
    }
    lines.push(("NVIDIA", nvidia(xid)));
    if !is_known(xid) {
        lines.push(("rule", "a number that is not in the catalogue is treated so".to_owned()));
    }
    lines.push((
        "change",
        "health.xids in the config file gives a number another effect".to_owned(),
    ));
    lines.push(("more", "https://docs.nvidia.com/deploy/xid-errors/".to_owned()));
    let mut out = format!("{xid}: {}\n", xid.meaning());
    for (name, line) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<8}{line}");
    }
    out
}

/// All numbers in lines of columns.
fn table() -> String {
    let head = ["XID", "CLASS", "DRIVER 565 AND LATER", "OLDER DRIVERS", "NAME"].map(str::to_owned);
    let rows = Xid::known().map(|xid| {
        let class = xid.class();
        let (new, old) = (text(class.effect(true)), text(class.effect(false)));
        [&xid.0.to_string(), class.as_str(), new, old, xid.meaning()].map(str::to_owned)
    });
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(rows).map(|row| row.to_vec()).collect();
    status::aligned(&rows)
}

/// The tables of docs/xids.md.
fn reference() -> String {
    let mut out = String::from(
        "| Class | Meaning | Driver 565 and later | Older drivers | What to do |\n\
         |---|---|---|---|---|\n",
    );
    let mut row = |cells: &[&str]| {
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    };
    for class in XidClass::ALL {
        let (new, old) = (class.effect(true), class.effect(false));
        let remedy = remedy(class).unwrap_or("-");
        row(&[class.as_str(), class.meaning(), text(new), text(old), remedy]);
    }
    out.push_str(
        "\n| Xid | Name | Class | Driver 565 and later | Older drivers | NVIDIA's remedy |\n\
         |---|---|---|---|---|---|\n",
    );
    let mut row = |number: &str, xid: Xid| {
        let class = xid.class();
        let (new, old) = (text(class.effect(true)), text(class.effect(false)));
        let cells = [number, xid.meaning(), class.as_str(), new, old, &nvidia(xid)].join(" | ");
        let _ = writeln!(out, "| {cells} |");
    };
    for xid in Xid::known() {
        row(&xid.0.to_string(), xid);
    }
    row("any other", Xid(u32::MAX));
    out
}

fn text(effect: XidEffect) -> &'static str {
    match effect {
        XidEffect::Counted => "counted",
        XidEffect::Logged => "logged, the GPU stays Healthy",
        XidEffect::Degraded => "logged, the GPU stays Healthy and is degraded",
        XidEffect::RecoveryAction => "Unhealthy if the driver asks for a recovery action",
        XidEffect::Unhealthy => "Unhealthy",
    }
}

/// What to do about a GPU after an Xid of the class, if anything.
fn remedy(class: XidClass) -> Option<&'static str> {
    match class {
        XidClass::Trigger => Some("do what the recovery action asks for"),
        _ => (class.effect(true) >= XidEffect::Degraded).then(|| class.remedy()),
    }
}

fn nvidia(xid: Xid) -> String {
    let action = xid.nvidia_action();
    match action.as_str() {
        Some(word) => format!("{} ({word})", action.meaning()),
        None => action.meaning().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_known_number_is_explained() {
        expect![[r#"
            Xid 79: the GPU has fallen off the bus
            class   lost: the GPU is not on the PCIe bus any more, until NVML lists it again
            effect  driver 565 and later: Unhealthy
                    older drivers: Unhealthy
            to do   reboot the node; if it comes again, reseat or replace the GPU
            NVIDIA  reboot the node (RESTART_BM)
            change  health.xids in the config file gives a number another effect
            more    https://docs.nvidia.com/deploy/xid-errors/
        "#]]
        .assert_eq(&explained(Xid(79)));
    }

    #[test]
    fn what_older_drivers_make_of_a_number_is_told_apart() {
        let text = explained(Xid(74));
        assert!(text.contains("later: Unhealthy if the driver asks"), "{text}");
        assert!(text.contains("older drivers: Unhealthy\n"), "{text}");
        assert!(!explained(Xid(13)).contains("to do"), "the GPU is fine");
    }

    #[test]
    fn an_unknown_number_is_said_to_be_unknown_with_the_rule_for_it() {
        let text = explained(Xid(4711));
        assert!(text.starts_with("Xid 4711: not in NVIDIA's catalogue\n"), "{text}");
        assert!(text.contains("later: Unhealthy if the driver asks"), "{text}");
        assert!(text.contains("older drivers: logged, the GPU stays Healthy\n"), "{text}");
        assert!(text.contains("a number that is not in the catalogue is treated so"), "{text}");
        assert!(!is_known(Xid(4711)) && !is_known(Xid(u32::MAX)) && is_known(Xid(172)));
    }

    #[test]
    fn every_number_has_a_row_in_both_tables() {
        let (table, reference) = (table(), reference());
        for xid in Xid::known() {
            assert!(table.lines().any(|line| line.starts_with(&format!("{} ", xid.0))), "{xid}");
            let row = format!("| {} | {} |", xid.0, xid.meaning());
            assert!(reference.contains(&row), "{xid}");
        }
    }
}
