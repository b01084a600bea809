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
