//! How a kubelet before 1.26 asks a plugin for its options: `:authority` is the path of the socket,
//! encoded, which no library here would send. So these are the bytes.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::proto::DevicePluginOptions;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
/// Flags, and the codes of errors as grpc-go writes them.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ERRORS: [&str; 2] = ["NO_ERROR", "PROTOCOL_ERROR"];
const PATIENCE: Duration = Duration::from_secs(10);

/// The error of the kubelet: no answer is known to come.
pub(crate) async fn ask(socket: &Path) -> Result<DevicePluginOptions, String> {
    let failed = |what: String| format!("failed to get device plugin options: {what}");
    match timeout(PATIENCE, reset_code(socket)).await {
        Ok(Ok(code)) => {
            let code = ERRORS.get(code as usize).map_or(code.to_string(), ToString::to_string);
            Err(failed(format!(
                "rpc error: code = Internal desc = stream terminated by RST_STREAM with error \
                 code: {code}"
            )))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("context deadline exceeded".to_owned())),
    }
}

/// With which code the call is reset.
async fn reset_code(socket: &Path) -> std::io::Result<u32> {
    let mut stream = UnixStream::connect(socket).await?;
    let authority = socket.display().to_string().replace('/', "%2F");
    // POST and http are in the static table (RFC 7541, A), the others have their name from there.
    let mut head = vec![0x83, 0x86];
    for (name, value) in [
        (1, authority.as_str()),
        (4, "/v1beta1.DevicePlugin/GetDevicePluginOptions"),
        (31, "application/grpc"),
    ] {
        // 15 and more do not fit into four bits.
        head.extend(if name < 15 { vec![name] } else { vec![0x0f, name - 15] });
        head.extend(length(value.len()));
        head.extend(value.as_bytes());
    }
    stream.write_all(PREFACE).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await?;
    stream.write_all(&frame(DATA, END_STREAM, 1, &[0; 5])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        if let (RST_STREAM, Ok(code)) = (head[3], <[u8; 4]>::try_from(payload.as_slice())) {
            return Ok(u32::from_be_bytes(code));
        }
    }
}

/// The length of a string without Huffman coding (RFC 7541, 5.1 and 5.2).
fn length(bytes: usize) -> Vec<u8> {
    const PREFIX: usize = 127;
    let byte = |number: usize| u8::try_from(number).expect("it has seven bits");
    match bytes.checked_sub(PREFIX) {
        None => vec![byte(bytes)],
        Some(more) if more < 128 => vec![byte(PREFIX), byte(more)],
        Some(more) => vec![byte(PREFIX), 0x80 | byte(more % 128), byte(more / 128)],
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
