//! Header fields as they came: one buffer, and where each line's name and value lie in it.

use bytes::Bytes;

use crate::token;

#[derive(Clone, Copy, Debug)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// A multimap of field lines in their order, with names in the spelling that came; looked up case-insensitively
/// (RFC 9110 section 5.1). Values are bytes: RFC 9110 section 5.5 promises no charset.
#[derive(Clone, Debug, Default)]
pub struct HeaderMap {
    text: Bytes,
    fields: Vec<Field>,
}

impl HeaderMap {
    /// Over `text`, with the names and values as slices of it.
    pub(crate) fn over(text: Bytes, lines: &[httparse::Header<'_>], origin: &[u8]) -> Self {
        // The lines were parsed from `origin`, of which `text` is a copy or a share: only their places are kept.
        let place = |part: &[u8]| {
            let start = (part.as_ptr() as usize).saturating_sub(origin.as_ptr() as usize);
            (start as u32, (start + part.len()) as u32)
        };
        let fields = lines
            .iter()
            .map(|line| Field { name: place(line.name.as_bytes()), value: place(token::trim(line.value)) })
            .collect();
        HeaderMap { text, fields }
    }

    /// Of names and values that have been told apart already.
    pub fn from_lines<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut text = Vec::new();
        let mut put = |part: &[u8]| {
            let start = text.len() as u32;
            text.extend_from_slice(part);
            (start, text.len() as u32)
        };
        let fields = lines.map(|(name, value)| Field { name: put(name), value: put(token::trim(value)) }).collect();
        HeaderMap { text: Bytes::from(text), fields }
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// How many bytes the lines take in HTTP/1.1, each with its colon, one space and its end.
    pub fn bytes(&self) -> u64 {
        let length = |(start, end): (u32, u32)| u64::from(end - start);
        self.fields.iter().map(|field| length(field.name) + length(field.value) + 4).sum()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Every line as (name, value), in its order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.part(field.name), self.part(field.value)))
    }

    /// The values of all lines of that name, in their order.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.part(field.name).eq_ignore_ascii_case(name))
            .map(|field| self.part(field.value))
    }

    /// The value of the first line of that name.
    pub fn get<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// Whether a comma-separated list field has that member, in any of its lines, in any case.
    pub fn lists(&self, name: &[u8], member: &[u8]) -> bool {
        self.get_all(name).flat_map(token::list).any(|found| found.eq_ignore_ascii_case(member))
    }
}
