//! The policy that lets only the page's own style and script run.

/// What the style and the script of one answer carry, so that the browser accepts no others.
pub(in crate::observe::http) struct Nonce(String);

impl Nonce {
    /// 16 random bytes. Without random numbers it is empty: the page then has neither style nor
    /// script, and says the same.
    pub(in crate::observe::http) fn random() -> Self {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => {
                Self(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
            }
            Err(_) => Self("none".to_owned()),
        }
    }

    /// The Content-Security-Policy: the page's own style and script, and requests to its own
    /// server.
    pub(in crate::observe::http) fn policy(&self) -> String {
        let Self(nonce) = self;
        format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        )
    }

    /// The value of the `nonce` attributes.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self("n0nce".to_owned())
    }
}
