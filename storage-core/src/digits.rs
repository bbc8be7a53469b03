//! Short texts on the stack, written from their end. A write of the store shows a dozen of them, and the machinery of
//! `format!` costs more than all else that it does.

/// A text of at most `N` ASCII bytes.
#[derive(Debug)]
pub(crate) struct Digits<const N: usize> {
    bytes: [u8; N],
    start: usize,
}

impl<const N: usize> Digits<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], start: N }
    }
    /// Puts a byte before the text; one that has no room is left out.
    pub(crate) fn push(&mut self, byte: u8) {
        if let Some(start) = self.start.checked_sub(1) {
            self.bytes[start] = byte;
            self.start = start;
        }
    }
    /// Puts a number before the text, as it is.
    pub(crate) fn push_number(&mut self, mut number: u64) {
        loop {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                break;
            }
        }
    }
    /// Puts the last `width` digits of a number before the text, zeros where it has fewer.
    pub(crate) fn push_padded(&mut self, mut number: u64, width: usize) {
        for _ in 0..width {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
        }
    }
    /// Puts two hexadecimal digits before the text.
    pub(crate) fn push_hex(&mut self, byte: u8) {
        for digit in [byte & 15, byte >> 4] {
            self.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
    pub(crate) fn as_str(&self) -> &str {
        // ASCII is UTF-8.
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}
