//! Header fields as received: one buffer, and the positions of each name and value in it.

use bytes::Bytes;

use crate::token;

#[derive(Clone, Copy, Debug)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// Multimap of field lines in their order, with names as they were spelled; lookups ignore case (RFC 9110 section 5.1).
/// Values are bytes: RFC 9110 section 5.5 guarantees no charset.
#[derive(Clone, Debug, Default)]
pub struct HeaderMap {
    text: Bytes,
    fields: Vec<Field>,
}

impl HeaderMap {
    /// Returns a map over `text`, with names and values as slices of it.
    pub(crate) fn over(text: Bytes, lines: &[httparse::Header<'_>], origin: &[u8]) -> Self {
        // The lines were parsed from `origin`, and `text` is a copy of it or shares its memory: their positions are the
        // same.
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

    /// Returns a map of names and values that are already separate.
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

    /// Returns the size of the lines in HTTP/1.1, each with a colon, one space and a line end.
    pub fn bytes(&self) -> u64 {
        let length = |(start, end): (u32, u32)| u64::from(end - start);
        self.fields.iter().map(|field| length(field.name) + length(field.value) + 4).sum()
    }

    /// Returns the number of lines.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns true if there are no lines.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Returns the lines in their order, as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.part(field.name), self.part(field.value)))
    }

    /// Returns the values of all lines with this name, in their order.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.part(field.name).eq_ignore_ascii_case(name))
            .map(|field| self.part(field.value))
    }

    /// Returns the value of the first line with this name.
    pub fn get<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// Returns true if a comma-separated list field has this member, in any of its lines, in any case.
    pub fn lists(&self, name: &[u8], member: &[u8]) -> bool {
        self.get_all(name).flat_map(token::list).any(|found| found.eq_ignore_ascii_case(member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [(&[u8], &[u8]); 4] = [(b"A", b" 1\t"), (b"b-c", b"x, Y ,"), (b"a", b""), (b"B-C", b"z")];

    fn check(headers: &HeaderMap) {
        let lines: Vec<_> = headers.iter().collect();
        let trimmed: [(&[u8], &[u8]); 4] = [(b"A", b"1"), (b"b-c", b"x, Y ,"), (b"a", b""), (b"B-C", b"z")];
        assert_eq!(lines, trimmed);
        assert_eq!((headers.len(), headers.is_empty()), (4, false));
        assert_eq!(headers.get_all(b"a").collect::<Vec<_>>(), [b"1".as_slice(), b""]);
        assert_eq!((headers.get(b"B-c"), headers.get(b"c")), (Some(b"x, Y ,".as_slice()), None));
        assert!(headers.lists(b"b-c", b"y") && headers.lists(b"b-c", b"Z") && headers.lists(b"A", b"1"));
        assert!(!headers.lists(b"b-c", b"x, y") && !headers.lists(b"b-c", b"") && !headers.lists(b"c", b"x"));
        // "A: 1", "b-c: x, Y ,", "a: " and "B-C: z", with line ends.
        assert_eq!(headers.bytes(), 6 + 13 + 5 + 8);
    }

    #[test]
    fn test_header_map_of_parsed_text_finds_its_lines() {
        let text = b"GET\r\nA: 1\t\r\nb-c: x, Y ,\r\na:\r\nB-C: z\r\n\r\n";
        let mut lines = [httparse::EMPTY_HEADER; 4];
        assert!(httparse::parse_headers(&text[5..], &mut lines).expect("valid").is_complete());
        check(&HeaderMap::over(Bytes::from_static(text), &lines, text));
    }

    #[test]
    fn test_header_map_of_lines_finds_them() {
        check(&HeaderMap::from_lines(LINES.into_iter()));
        let empty = HeaderMap::from_lines(std::iter::empty());
        assert_eq!((empty.len(), empty.is_empty(), empty.bytes(), empty.iter().count()), (0, true, 0, 0));
    }
}
