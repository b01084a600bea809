//! What is wrong with more than one GPU, and findings.

use std::fmt::{Result, Write};

use status::Status;

use super::html::{Escaped, Since, plural};

/// What is wrong with more than one GPU.
pub(super) fn alerts(html: &mut String, status: &Status) -> Result {
    let now = status.generated_at;
    if let Some(fault) = &status.nvml.fault {
        write!(html, "<p class=\"alert bad\"><strong>NVML: {}</strong>", Escaped(&fault.message))?;
        if let Some(remedy) = &fault.remedy {
            write!(html, "; {}", Escaped(remedy))?;
        }
        write!(html, " <span class=\"since\">{}</span></p>", Since(now, fault.since))?;
    }
    for reason in &status.plugin.not_ready {
        write!(html, "<p class=\"alert bad\"><strong>Not ready:</strong> {}</p>", Escaped(reason))?;
    }
    if status.nvml.unanswered_calls > 0 {
        let calls = status.nvml.unanswered_calls;
        write!(
            html,
            "<p class=\"alert bad\">{} of NVML do not return.</p>",
            plural(calls, "call")
        )?;
    }
    if let Some(refused) =
        status.configuration.last_reload.as_ref().and_then(|last| last.refused.as_ref())
    {
        write!(
            html,
            "<p class=\"alert warn\"><strong>The changed configuration was refused:</strong> \
                {}</p>",
            Escaped(refused)
        )?;
    }
    Ok(())
}

/// What is not offered as one would expect.
pub(super) fn findings(html: &mut String, status: &Status) -> Result {
    if status.findings.is_empty() {
        return Ok(());
    }
    html.write_str("<section><h2>Findings</h2><ul class=\"findings\">")?;
    for finding in &status.findings {
        write!(html, "<li>{}</li>", Escaped(&finding.message))?;
    }
    html.write_str("</ul></section>")
}
