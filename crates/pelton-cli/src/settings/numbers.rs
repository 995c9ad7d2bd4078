//! Numbers in arguments, refused with a number that would work.

/// A whole number.
pub fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "must be a whole number below 2^32; 64 would work".into())
}

/// A larger one.
pub fn long(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a whole number below 2^64; 1 would work".into())
}

/// A number with a decimal point.
pub fn fraction(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "must be a number with a decimal point; 0.5 would work".into())
}
