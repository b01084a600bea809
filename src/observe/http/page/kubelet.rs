//! The resources and their registration with the kubelet.

use std::fmt::{Result, Write};

use status::{Resource, Status};

use super::html::{Escaped, Since, pill};

/// A row for each resource.
pub(super) fn kubelet(html: &mut String, status: &Status) -> Result {
    html.write_str("<section><h2>Kubelet</h2>")?;
    if status.resources.is_empty() {
        return html.write_str("<p class=\"empty\">No resource is offered yet.</p></section>");
    }
    html.write_str(
        "<div class=\"scroll\"><table><thead><tr><th>Resource</th><th>Registration</th>\
         <th class=\"number\">Healthy</th><th class=\"number\">Held</th>\
         <th class=\"number\">Streams</th><th class=\"number\">Registrations</th>\
         <th>Socket</th></tr></thead><tbody>",
    )?;
    for resource in &status.resources {
        row(html, resource, status)?;
    }
    html.write_str("</tbody></table></div></section>")
}

fn row(html: &mut String, resource: &Resource, status: &Status) -> Result {
    let kubelet = &resource.kubelet;
    write!(html, "<tr><th scope=\"row\">{}</th><td>", Escaped(&resource.name))?;
    match kubelet.registered {
        true => pill(html, "good", "Registered")?,
        false => pill(html, "bad", "Not registered")?,
    }
    if let Some(since) = kubelet.since {
        write!(html, " <span class=\"since\">{}</span>", Since(status.generated_at, since))?;
    }
    if let Some(problem) = &kubelet.problem {
        write!(html, "<br>{}", Escaped(problem))?;
    }
    let held = resource.allocated.map_or_else(|| "–".to_owned(), |held| held.to_string());
    write!(
        html,
        "</td><td class=\"number\">{} of {}</td><td class=\"number\">{held}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td><code>{}</code></td></tr>",
        resource.healthy,
        resource.devices.len(),
        kubelet.streams,
        kubelet.registrations,
        Escaped(kubelet.endpoint.as_deref().unwrap_or("–")),
    )
}
