//! Waiting for what nobody gives notice of: a file, or what /proc tells of a process.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until there is an answer.
///
/// # Errors
/// There was none in time; the error says `what` was waited for.
pub async fn eventually<T>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = look().await {
            return Ok(answer);
        }
        if begun.elapsed() > timeout {
            bail!("not within {timeout:?}: {what}");
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looks_until_there_is_an_answer_or_the_time_is_over() {
        let mut looks = 0;
        let third = eventually("the third look", Duration::from_secs(60), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(third.await.expect("it comes"), 3);
        let never = eventually("nothing", Duration::from_millis(20), async || None::<()>);
        assert_eq!(
            never.await.expect_err("it never comes").to_string(),
            "not within 20ms: nothing"
        );
    }
}
