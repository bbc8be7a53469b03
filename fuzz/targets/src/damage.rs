//! Damage to a file that is known: the input says where, how much goes and what comes in its place.

/// Applies damages until the input ends. One is two bytes of offset, a byte that says how many bytes go (low half) and how
/// many come (high half), and those that come.
pub(crate) fn apply(file: &[u8], mut input: &[u8]) -> Vec<u8> {
    let mut out = file.to_vec();
    while let [low, high, counts, rest @ ..] = input {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % (out.len() + 1);
        let gone = usize::from(counts & 15).min(out.len() - at);
        let come = usize::from(counts >> 4).min(rest.len());
        out.splice(at..at + gone, rest[..come].iter().copied());
        input = &rest[come..];
    }
    out
}

/// One damage in the form that [`apply`] reads.
pub(crate) fn one(at: usize, gone: usize, come: &[u8]) -> Vec<u8> {
    let at = u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes();
    let counts = gone.min(15) | come.len().min(15) << 4;
    let mut bytes = vec![at[0], at[1], u8::try_from(counts).unwrap_or(0)];
    bytes.extend_from_slice(&come[..come.len().min(15)]);
    bytes
}

/// A number put in place of the one that begins at an offset.
pub(crate) fn number(file: &[u8], at: usize, value: &str) -> Vec<u8> {
    let gone = file[at.min(file.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (first, rest) = value.as_bytes().split_at(value.len().min(15));
    [one(at, gone, b""), one(at, 0, rest), one(at, 0, first)].concat()
}
