//! Selectors of the settings that match nothing on this node, which are mistakes as a rule.

use super::filter::Term;
use super::finding::LayoutFinding;
use super::{Layout, MigStrategy, NamePattern};
use crate::identity::KnownGpu;

impl Layout {
    /// The selectors that match nothing. As long as something is not known that a selector is
    /// about, it may match.
    pub(super) fn unmatched(&self, gpus: &[KnownGpu<'_>]) -> Vec<LayoutFinding> {
        if gpus.is_empty() {
            return Vec::new();
        }
        let filter = [(&self.devices.include, ""), (&self.devices.exclude, "!")];
        let terms = filter.iter().flat_map(|(terms, mark)| terms.iter().map(move |of| (of, mark)));
        let unmatched = terms.filter(|(term, _)| !may_match(term, gpus));
        let mut findings: Vec<_> = unmatched
            .map(|(term, mark)| LayoutFinding::matches_nothing("devices", format!("{mark}{term}")))
            .collect();
        if let Some(models) = gpus.iter().map(|gpu| gpu.model()).collect::<Option<Vec<_>>>() {
            findings.extend(unmatched_names("resources.gpus", &self.gpu_names, &models));
        }
        let profiles = gpus.iter().filter_map(|gpu| gpu.facts()).flat_map(|gpu| &gpu.mig_devices);
        let profiles: Vec<&str> = profiles.filter_map(|mig| mig.profile.as_deref()).collect();
        if self.mig_strategy != MigStrategy::None && !profiles.is_empty() {
            findings.extend(unmatched_names("resources.mig", &self.mig_names, &profiles));
        }
        findings
    }
}

fn may_match(term: &Term, gpus: &[KnownGpu<'_>]) -> bool {
    gpus.iter().any(|gpu| match term {
        Term::Model(_) if gpu.model().is_none() => true,
        Term::PciBusId(_) if gpu.record.pci_bus_id().is_none() => true,
        term => term.matches(*gpu),
    })
}

/// The patterns that match no text. One file for many kinds of nodes has patterns with `*` of which
/// some match on each node: they are only told where none does.
fn unmatched_names(
    setting: &'static str,
    names: &[NamePattern],
    texts: &[&str],
) -> Vec<LayoutFinding> {
    let matches = |name: &NamePattern| texts.iter().any(|text| name.pattern.matches(text));
    let some_match = names.iter().any(matches);
    let is_for_others = |name: &NamePattern| some_match && name.pattern.as_str().contains('*');
    let told = names.iter().filter(|name| !matches(name) && !is_for_others(name));
    told.map(|name| LayoutFinding::matches_nothing(setting, name.pattern.as_str().to_owned()))
        .collect()
}
