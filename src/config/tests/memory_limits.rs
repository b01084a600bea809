//! The key `memoryLimits` under `sharing`.

use device::memory_share::MemoryLimits;

use super::*;

fn text(limits: &str) -> String {
    format!(
        "flags: {{plugin: {{deviceListStrategy: cdi-cri}}}}\nsharing:\n  timeSlicing:\n    \
         memoryLimits: {limits}\n    resources: [{{name: nvidia.com/gpu, replicas: 4}}]\n"
    )
}

#[test]
fn limits_are_read_and_shown() {
    for (limits, expected) in [
        ("{}", None),
        ("{enforce: off, reserve: 10%}", None),
        ("{enforce: auto}", Some((100, 4))),
        ("{enforce: auto, oversubscribe: 1.0, reserve: 4%}", Some((100, 4))),
        ("{enforce: auto, oversubscribe: 1.25, reserve: 0%}", Some((125, 0))),
        ("{enforce: auto, oversubscribe: 2}", Some((200, 4))),
        ("{enforce: auto, oversubscribe: 100, reserve: 90%}", Some((10_000, 90))),
    ] {
        let config = quiet(&text(limits));
        let found = config.layout.sharing.replication().unwrap().memory_limits;
        let expected = expected.map(|(oversubscribe_percent, reserve_percent)| MemoryLimits {
            oversubscribe_percent,
            reserve_percent,
        });
        assert_eq!(found, expected, "{limits}");
        let again = with_file(&show(&config, false)).config();
        assert_eq!(again.layout, config.layout, "{limits}");
    }
}

#[test]
fn what_is_no_limit_is_refused() {
    for limits in [
        "{enforce: always}",
        "{enforce: auto, oversubscribe: 0.5}",
        "{enforce: auto, oversubscribe: 1.234}",
        "{enforce: auto, oversubscribe: 101}",
        "{enforce: auto, oversubscribe: -1}",
        "{enforce: auto, oversubscribe: 1.}",
        "{enforce: auto, reserve: 4}",
        "{enforce: auto, reserve: 91%}",
        "{enforce: auto, reserve: 4.5%}",
        "[]",
    ] {
        assert_eq!(with_file(&text(limits)).mistakes().len(), 1, "{limits}");
    }
}

#[test]
fn without_cdi_nothing_can_be_enforced_and_that_is_told() {
    let text = text("{enforce: auto}").replace("cdi-cri", "envvar");
    let warnings = warnings(&text);
    assert!(warnings.len() == 1 && warnings[0].contains("not enforceable without"), "{warnings:?}");
}
