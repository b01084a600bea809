use proptest::prelude::*;

use super::*;

fn parse(line: &str) -> Result<Hook, HookError> {
    let args = ["gpu-cdi-hook"].into_iter().chain(line.split_whitespace());
    match Command::parse(args.map(OsString::from))? {
        Command::Hook(hook, _) => Ok(hook),
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_are_those_of_nvidias_hooks() {
    let link = |target: &str, path: &str| Link { target: target.into(), path: path.into() };
    for (line, expected) in [
        (
            "create-symlinks --link libcuda.so.1::/usr/lib/libcuda.so \
             --link ../card0::/dev/dri/by-path/x",
            Hook::CreateSymlinks(vec![
                link("libcuda.so.1", "/usr/lib/libcuda.so"),
                link("../card0", "/dev/dri/by-path/x"),
            ]),
        ),
        (
            "update-ldcache --ldconfig-path=@/sbin/ldconfig --folder /usr/lib64 --folder=/opt/a",
            Hook::UpdateLdcache(vec!["/usr/lib64".into(), "/opt/a".into()]),
        ),
        (
            "hook chmod --mode 755 --path /dev/dri",
            Hook::Chmod { mode: 0o755, paths: vec!["/dev/dri".into()] },
        ),
        (
            "enable-cuda-compat --host-driver-version=580.95.05 --container-spec -",
            Hook::EnableCudaCompat { host_driver_major: Some(580) },
        ),
        (
            "--debug hook --quiet -d enable-cuda-compat --host-cuda-version=13.0",
            Hook::EnableCudaCompat { host_driver_major: None },
        ),
        ("apply-cuda-memory-limits --gpu-id GPU-1", Hook::ApplyCudaMemoryLimits(Vec::new())),
        ("enable-cuda-compat", Hook::EnableCudaCompat { host_driver_major: None }),
        ("disable-device-node-modification", Hook::DisableDeviceNodeModification),
        ("update-application-profile", Hook::UpdateApplicationProfile),
        (
            "apply-cuda-memory-limits --gpu-id GPU-1 --driver-root / \
             --limit 00000000:1A:00.0=1048576",
            Hook::ApplyCudaMemoryLimits(vec![MemoryLimit {
                address: "00000000:1a:00.0".to_owned(),
                bytes: 1 << 20,
            }]),
        ),
    ] {
        assert_eq!(parse(line).unwrap(), expected, "{line}");
    }
}

#[test]
fn what_is_no_call_is_refused() {
    for line in [
        "",
        "hook",
        "none-such",
        "create-symlinks --folder /usr/lib",
        "create-symlinks --link libcuda.so.1",
        "create-symlinks --link ::/usr/lib/x",
        "create-symlinks --link a::usr/lib/x",
        "create-symlinks --link a::/usr/../../x",
        "create-symlinks --link a::/b::c",
        "update-ldcache --folder ../usr/lib",
        "update-ldcache --folder",
        "update-ldcache extra",
        "update-ldcache --debug",
        "--quiet=yes chmod --mode 755",
        "chmod --path /dev/dri",
        "chmod --mode 4755 --path /bin/su",
        "chmod --mode 0x1ff --path /dev",
        "enable-cuda-compat --host-driver-version=new",
        "apply-cuda-memory-limits --limit 0000:01:00.0",
        "apply-cuda-memory-limits --limit 0000:01:00.0=-1",
        "apply-cuda-memory-limits --limit ../../x=1",
        "-x",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn the_state_comes_from_where_it_is_said() {
    let source = |line: &str| {
        let args = line.split_whitespace().map(OsString::from);
        match Command::parse(args) {
            Ok(Command::Hook(_, source)) => source,
            other => panic!("{other:?}"),
        }
    };
    let file = StateSource::File("/a/state".into());
    assert_eq!(source("x chmod --mode 755 --container-spec /a/state"), file);
    assert_eq!(source("x chmod --mode 755"), StateSource::Input);
}

proptest! {
    #[test]
    fn no_command_line_does_harm(args in prop::collection::vec("[ -~]{0,12}|--[a-z]{3,6}", 0..6)) {
        let args = ["x", "create-symlinks"].map(OsString::from).into_iter()
            .chain(args.into_iter().map(OsString::from));
        let _ = Command::parse(args);
    }
}
