//! Checksums made to fit, so that an input gets past them to what they protect.

/// What ends a line: `,"crc":"xxxxxxxx"}`, less the newline.
const SUFFIX: usize = 18;
const MARK: &[u8] = b",\"crc\":\"";

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn rfind(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

fn push_sealed(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(body);
    out.extend_from_slice(format!(",\"crc\":\"{:08x}\"}}", crc32fast::hash(body)).as_bytes());
}

/// One line without its newline. A line that has no checksum gets one.
fn line(text: &[u8]) -> Vec<u8> {
    let has = text.len() >= SUFFIX && text[text.len() - SUFFIX..].starts_with(MARK);
    let body = if has { &text[..text.len() - SUFFIX] } else { text.strip_suffix(b"}").unwrap_or(text) };
    let mut out = Vec::with_capacity(text.len() + SUFFIX);
    push_sealed(&mut out, &inner(body));
    out
}

/// The ledger lines within a journal line.
fn inner(body: &[u8]) -> Vec<u8> {
    const LINES: &[u8] = b"\"lines\":[";
    let Some(start) = find(body, LINES).map(|at| at + LINES.len()) else { return body.to_vec() };
    let (mut out, mut rest) = (body[..start].to_vec(), &body[start..]);
    while let Some(at) = find(rest, MARK).filter(|at| at + SUFFIX <= rest.len()) {
        let comma = usize::from(rest.first() == Some(&b','));
        out.extend_from_slice(&rest[..comma.min(at)]);
        push_sealed(&mut out, &rest[comma.min(at)..at]);
        rest = &rest[at + SUFFIX..];
    }
    out.extend_from_slice(rest);
    out
}

/// Every line of a journal or a ledger that looks like one.
pub(crate) fn lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        match text.strip_suffix(b"\n").filter(|text| text.first() == Some(&b'{')) {
            Some(text) => {
                out.extend_from_slice(&line(text));
                out.push(b'\n');
            }
            None => out.extend_from_slice(text),
        }
    }
    out
}

/// JSON without the space between its tokens.
pub(crate) fn compact(text: &[u8]) -> Vec<u8> {
    let (mut out, mut within, mut escaped) = (Vec::with_capacity(text.len()), false, false);
    for byte in text {
        if within {
            within = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            within = *byte == b'"';
        }
        out.push(*byte);
    }
    out
}

/// A manifest. Its checksum is its last field and covers the compact text with that field empty.
pub(crate) fn manifest(text: &[u8]) -> Vec<u8> {
    const FIELD: &[u8] = b"\"crc32\":\"";
    let mut compacted = compact(text);
    let Some(start) = rfind(&compacted, FIELD).map(|at| at + FIELD.len()) else { return text.to_vec() };
    compacted.truncate(start);
    compacted.extend_from_slice(b"\"}");
    let crc = crc32fast::hash(&compacted);
    compacted.truncate(start);
    compacted.extend_from_slice(format!("{crc:08x}\"}}\n").as_bytes());
    compacted
}

/// A manifest that names other bytes of one file.
pub(crate) fn manifest_with(text: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    let compacted = compact(text);
    let of_ledger = name == crate::base::LEDGER;
    let field = if of_ledger { "\"ledger_bytes\":".to_owned() } else { format!("\"{name}\":") };
    let Some(start) = find(&compacted, field.as_bytes()).map(|at| at + field.len()) else { return text.to_vec() };
    let ends: &[u8] = if of_ledger { b"," } else { b"}" };
    let end = find(&compacted[start..], ends).map_or(compacted.len(), |at| start + at);
    let value = if of_ledger {
        bytes.len().to_string()
    } else {
        format!("{{\"bytes\":{},\"crc32\":\"{:08x}\"", bytes.len(), crc32fast::hash(bytes))
    };
    manifest(&[&compacted[..start], value.as_bytes(), &compacted[end..]].concat())
}

/// One slot of the journal's head: five numbers and their checksum.
pub(crate) fn slot(numbers: &[u8; 40]) -> [u8; 64] {
    let mut slot = [0; 64];
    slot[..40].copy_from_slice(numbers);
    slot[40..44].copy_from_slice(&(crc32fast::hash(numbers) ^ 0xa5a5_5a5a).to_le_bytes());
    slot
}
