//! Lists and texts from a peer, refused before they are allocated when they are longer than their bound.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

struct List<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        if seq.size_hint().is_some_and(|len| len > MAX) {
            return Err(A::Error::custom("a list is too long"));
        }
        // No capacity is taken on trust: it grows with the elements that are really there.
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::custom("a list is too long"));
            }
            list.push(element);
        }
        Ok(list)
    }
}

/// A list of at most `MAX` elements.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
}

/// UTF-8 of at most `MAX` bytes without control characters.
pub(super) fn text<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    if text.len() > MAX || text.chars().any(char::is_control) {
        return Err(D::Error::custom("a text is too long or has control characters"));
    }
    Ok(text.to_owned())
}
