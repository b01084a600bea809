//! How often each rule of the state file has been met, for those that do not count for every call.

use super::Driver;
use crate::state::{Rule, State};

/// A rule that a call has met.
#[derive(Debug, Clone)]
pub(super) struct Met {
    pub(super) rule: Rule,
    /// The number of the call among those that the rule counts for.
    number: u32,
}

/// The rules that count calls, and how many have come so far.
#[derive(Default)]
pub(super) struct Counts(Vec<(Counted, u32)>);

/// A rule of somebody's: the node's (an empty name), a GPU's, a MIG device's.
#[derive(PartialEq, Eq)]
struct Counted {
    owner: String,
    rule: Rule,
    /// How many like it stand before it.
    before: usize,
}

impl Counts {
    /// The first of the owner's rules that counts for this call, which is counted, but for those by
    /// which it was counted before.
    pub(super) fn meet(
        &mut self,
        owner: &str,
        rules: &[Rule],
        function: &str,
        before: &[Rule],
    ) -> Option<Met> {
        let is_new = |rule: &Rule| rule.fits(function) && !before.contains(rule);
        rules.iter().enumerate().filter(|(_, rule)| is_new(rule)).find_map(|(place, rule)| {
            let before = rules[..place].iter().filter(|other| *other == rule).count();
            let calls = self.count(Counted { owner: owner.to_owned(), rule: rule.clone(), before });
            let number = calls.checked_sub(rule.after).filter(|number| *number > 0)?;
            let counts = rule.times.is_none_or(|times| number <= times);
            counts.then(|| Met { rule: rule.clone(), number })
        })
    }

    /// Forgets the rules that are gone: one that comes back begins again.
    pub(super) fn keep(&mut self, state: &State) {
        self.0.retain(|(counted, _)| {
            let like = rules_of(state, &counted.owner).filter(|rule| **rule == counted.rule);
            like.count() > counted.before
        });
    }

    fn count(&mut self, counted: Counted) -> u32 {
        let known = self.0.iter().position(|(known, _)| *known == counted);
        let place = known.unwrap_or_else(|| {
            self.0.push((counted, 0));
            self.0.len() - 1
        });
        self.0[place].1 = self.0[place].1.saturating_add(1);
        self.0[place].1
    }
}

impl Met {
    pub(super) fn code(&self) -> Option<u32> {
        self.rule.answer.filter(|code| *code != 0)
    }

    pub(super) fn value(&self) -> Option<String> {
        Some(self.rule.value.as_ref()?.replace("{n}", &self.number.to_string()))
    }

    pub(super) fn is_still_in(&self, rules: &[Rule]) -> bool {
        rules.contains(&self.rule)
    }
}

impl Driver {
    /// The return code that rules ask of one field value of a GPU.
    pub(super) fn field_code(&mut self, owner: &str, rules: &[Rule], field: u32) -> Option<u32> {
        let name = format!("nvmlDeviceGetFieldValues/{field}");
        // A pattern such as `nvmlDevice*` is about functions.
        let named: Vec<Rule> =
            rules.iter().filter(|rule| rule.call.contains('/')).cloned().collect();
        self.counts.meet(owner, &named, &name, &[])?.code()
    }
}

/// The rules of the node (an empty name), a GPU or a MIG device.
fn rules_of<'a, 'b: 'a>(state: &'a State, owner: &'b str) -> impl Iterator<Item = &'a Rule> {
    let node = owner.is_empty().then_some(&state.rules);
    let gpu = state.gpus.iter().filter(move |gpu| gpu.uuid == owner).map(|gpu| &gpu.rules);
    let devices = state.gpus.iter().flat_map(|gpu| gpu.mig.iter().flat_map(|mig| &mig.devices));
    let mig = devices.filter(move |device| device.uuid == owner).map(|device| &device.rules);
    node.into_iter().chain(gpu).chain(mig).flatten()
}
