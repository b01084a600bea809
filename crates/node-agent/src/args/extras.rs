//! Labels that GPU feature discovery does not have, as a flag asks for them.

use clap::ValueEnum;

use crate::labels::Extra;

/// What is asked for beside the labels of GPU feature discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras(pub Vec<Extra>);

/// A list of labels; each counts once.
pub(super) fn extras(text: &str) -> Result<Extras, String> {
    let mut extras = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let extra = Extra::from_str(word, false).map_err(|_| {
            format!("{word:?} is none of healthy-count, sharing, driver-branch and instances")
        })?;
        if !extras.contains(&extra) {
            extras.push(extra);
        }
    }
    Ok(Extras(extras))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_on_request_are_a_list_of_known_words() {
        let list = |text: &str| extras(text).map(|extras| extras.0);
        assert_eq!(list(""), Ok(Vec::new()));
        assert_eq!(
            list(" sharing,healthy-count,,sharing"),
            Ok(vec![Extra::Sharing, Extra::HealthyCount,])
        );
        assert!(list("health").unwrap_err().contains("\"health\" is none of"));
    }
}
