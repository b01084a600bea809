//! Several GPUs in words.

/// "GPU 7", "GPUs 0 to 7", "GPUs 0, 3 and 5", each GPU by its index, or by another name where the
/// index is not its own. Indices are expected in order.
pub(super) fn gpus_in_words(gpus: &[(Option<u32>, String)]) -> String {
    if let [(index, name)] = gpus {
        return index.map_or_else(|| name.clone(), |index| format!("GPU {index}"));
    }
    let mut indices: Vec<u32> = gpus.iter().filter_map(|(index, _)| *index).collect();
    indices.sort_unstable();
    indices.dedup();
    let mut names = Vec::new();
    for run in indices.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        match run {
            [first, _, .., last] => names.push(format!("{first} to {last}")),
            short => names.extend(short.iter().map(u32::to_string)),
        }
    }
    names.extend(gpus.iter().filter(|(index, _)| index.is_none()).map(|(_, name)| name.clone()));
    match names.as_slice() {
        [before @ .., last] if !before.is_empty() => {
            format!("GPUs {} and {last}", before.join(", "))
        }
        names => format!("GPUs {}", names.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_named_by_ranges_of_their_indices() {
        let words = |indices: &[u32]| {
            let gpus: Vec<_> = indices.iter().map(|index| (Some(*index), String::new())).collect();
            gpus_in_words(&gpus)
        };
        assert_eq!(words(&[7]), "GPU 7");
        assert_eq!(words(&[0, 1]), "GPUs 0 and 1");
        assert_eq!(words(&[0, 1, 2, 3]), "GPUs 0 to 3");
        assert_eq!(words(&[0, 3, 5]), "GPUs 0, 3 and 5");
        assert_eq!(words(&[0, 1, 2, 5, 7]), "GPUs 0 to 2, 5 and 7");
        assert_eq!(words(&[u32::MAX, 0]), "GPUs 0 and 4294967295");
        let stale = [(Some(1), String::new()), (None, "GPU-a at 0000:17:00.0".to_owned())];
        assert_eq!(gpus_in_words(&stale), "GPUs 1 and GPU-a at 0000:17:00.0");
        assert_eq!(gpus_in_words(&stale[1..]), "GPU-a at 0000:17:00.0");
    }
}
