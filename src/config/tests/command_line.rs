use super::*;
use crate::cli::args::{Action, CheckConfigArgs, ConfigAction};
use crate::cli::{Invocation, command};

fn parse(arguments: &[&str]) -> Result<Invocation, clap::Error> {
    let arguments =
        std::iter::once("gpu-device-plugin").chain(arguments.iter().copied()).map(Into::into);
    Invocation::parse(arguments, |_| None)
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn without_a_subcommand_it_serves() {
    assert_eq!(parse(&[]).unwrap().action, Action::Serve);
    let show = ConfigAction::Show { defaults: false };
    assert_eq!(parse(&["config", "show"]).unwrap().action, Action::Config(show));
    let check = parse(&["config", "check", "--strict", "a.yaml", "-"]).unwrap();
    let files = vec!["a.yaml".into(), "-".into()];
    let args = CheckConfigArgs { files, strict: true, json: false };
    assert_eq!(check.action, Action::Config(ConfigAction::Check(args)));
    assert!(parse(&["config", "check"]).is_err(), "without a file");
}

#[test]
fn flags_are_taken_before_and_after_a_subcommand() {
    for arguments in [
        &["--mig-strategy", "mixed", "config", "show"][..],
        &["config", "show", "--mig-strategy=mixed"],
        &["config", "--mig-strategy=mixed", "show"],
        &["-mig-strategy=mixed", "config", "show"],
        &["-mig-strategy", "mixed"],
        &["--mig-strategy", "single", "--mig-strategy", "mixed"],
    ] {
        let sources = parse(arguments).unwrap().sources;
        let config = load(&sources, None, Purpose::Serve).unwrap().config;
        assert_eq!(config.layout.mig_strategy, MigStrategy::Mixed, "{arguments:?}");
    }
}

#[test]
fn a_switch_takes_a_value_only_behind_its_equals_sign() {
    for (argument, expected) in [
        ("--pass-device-specs", true),
        ("--pass-device-specs=true", true),
        ("--pass-device-specs=T", true),
        ("--pass-device-specs=0", false),
        ("-pass-device-specs", true),
    ] {
        let config = Written { flags: &[argument], ..Written::default() }.config();
        assert_eq!(config.injector.pass_device_specs, expected, "{argument}");
    }
    assert!(parse(&["--pass-device-specs", "true"]).is_err());
}

#[test]
fn help_names_every_flag_variable_key_and_default() {
    let help = command().render_long_help().to_string();
    for setting in super::settings::all().filter(|setting| setting.is_in_help()) {
        let words =
            setting.flag.iter().chain(setting.env).chain(setting.key.iter()).chain(setting.aliases);
        for word in words {
            assert!(help.contains(word), "{word}");
        }
    }
}

#[test]
fn the_version_has_the_commit() {
    let error = parse(&["--version"]).unwrap_err();
    assert!(!error.use_stderr());
    assert!(error.to_string().contains("\ncommit: "), "{error}");
}

#[test]
fn an_unknown_flag_is_an_error_with_the_nearest() {
    let error = parse(&["--mig-strateg=none"]).unwrap_err();
    assert!(error.use_stderr());
    assert!(error.to_string().contains("--mig-strategy"), "{error}");
}

#[test]
fn flags_of_the_daemon_hold_where_none_is_given() {
    let words = |text: &str| text.split(' ').map(std::ffi::OsString::from).collect::<Vec<_>>();
    let mut own = Invocation::parse(words("x --mig-strategy mixed status"), |_| None).unwrap();
    own.add_missing_flags(words("x --mig-strategy single --http-address :1234"));
    let (config, _) = crate::config::ConfigSource::new(own.sources.clone()).load_lossy();
    assert_eq!(config.layout.mig_strategy, MigStrategy::Mixed);
    assert_eq!(config.process.http_address, Some(Address::AnyAddress(1234)));
    let before = own.clone();
    own.add_missing_flags(words("sleep 1000"));
    assert_eq!(own, before, "what is no command line of ours");
}

/// The help of a subcommand, `-h` or `--help`.
fn help(arguments: &[&str]) -> String {
    let error = parse(arguments).unwrap_err();
    assert!(!error.use_stderr(), "{error}");
    error.to_string()
}

#[test]
fn the_help_of_a_subcommand_has_its_own_flags() {
    for (arguments, shown) in [
        (&["status"][..], &["--exit-code", "--output", "--http-address", "--state-dir"][..]),
        (&["cdi", "list"], &["--cdi-spec-dir", "--config-file"]),
        (&["migrate"], &[]),
        (&["clear"], &["--cause", "--state-dir"]),
        (&["config", "check"], &["--strict", "--output"]),
        (&["config", "show"], &["--defaults", "--config-file"]),
        (&["xid"], &[]),
        (&["version"], &[]),
        (&["completions"], &[]),
    ] {
        let text = help(&[arguments, &["--help"]].concat());
        let options = text.lines().filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("-o, ").or(line.strip_prefix("-h, ")).unwrap_or(line);
            line.starts_with("--").then(|| line.split([' ', '=']).next().unwrap_or(line))
        });
        let options: Vec<_> = options.filter(|option| *option != "--help").collect();
        let mut expected = shown.to_vec();
        expected.sort_unstable();
        let mut sorted = options.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{arguments:?}: {text}");
        assert!(text.lines().count() < 45, "{arguments:?}: {text}");
    }
}

#[test]
fn the_short_help_fits_a_screen_or_two_and_the_long_one_says_all() {
    let (short, long) = (help(&["-h"]), help(&["--help"]));
    assert!(short.lines().count() < 80 && long.lines().count() > 200, "{short}");
    assert!(!short.contains("[env:") && long.contains("[env:"), "{short}");
    for word in ["--mig-strategy", "--config-file", "--log-format", "take-up", "--help has all"] {
        assert!(short.contains(word), "{word}: {short}");
    }
    for setting in settings::all().filter(|setting| setting.flag.is_some()) {
        assert!(long.contains(setting.flag.unwrap()), "{}", setting.name());
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    use clap::ValueEnum;
    for shell in clap_complete::Shell::value_variants() {
        let mut text = Vec::new();
        clap_complete::generate(*shell, &mut command(), "gpu-device-plugin", &mut text);
        let text = String::from_utf8(text).unwrap();
        for word in ["gpu-device-plugin", "take-up", "mig-strategy", "strict"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
}
