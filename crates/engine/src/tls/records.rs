//! The boundaries of records (RFC 8446 section 5.1): a header of 5 bytes that ends with the length of the data after
//! it.

/// Tracker of the records of a stream, up to the last byte received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records {
    header: [u8; 5],
    /// Number of bytes of the header that were received.
    begun: usize,
    /// Number of bytes of the record that are missing.
    left: usize,
    /// Number of bytes of the whole record.
    length: usize,
    /// Number of bytes of whole records since the last one that contained data.
    unsolicited: usize,
}

impl Records {
    /// Follows these received bytes.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                self.count_if_whole();
                continue;
            }
            if let Some(place) = self.header.get_mut(self.begun) {
                *place = first;
            }
            self.begun += 1;
            if self.begun == self.header.len() {
                self.begun = 0;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.length = self.header.len() + self.left;
                self.count_if_whole();
            }
            bytes = rest;
        }
    }

    fn count_if_whole(&mut self) {
        if self.left == 0 {
            self.unsolicited = self.unsolicited.saturating_add(self.length);
        }
    }

    /// Returns the number of bytes of unsolicited records since the last data, or since the handshake.
    pub fn unsolicited(&self) -> usize {
        self.unsolicited
    }

    /// Notes that the records so far contained data, or the end of the handshake.
    pub fn have_brought_data(&mut self) {
        self.unsolicited = 0;
    }

    /// Returns true if the last byte was the end of a record. A record that begins on an idle connection would be taken
    /// for the response to the next request once it is complete.
    pub fn is_whole(&self) -> bool {
        self.begun == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    #[test]
    fn records_end_where_their_headers_say() {
        let two = [&[23, 3, 3, 0, 2, 7, 8][..], &[21, 3, 3, 0, 0], &[22, 3, 3, 0, 1, 9]].concat();
        let ends = [7, 12, 18];
        for cut in 0..=two.len() {
            let mut records = Records::default();
            records.pass(&two[..cut]);
            assert_eq!(records.is_whole(), cut == 0 || ends.contains(&cut), "{cut}");
            assert_eq!(records.unsolicited(), ends.into_iter().filter(|end| *end <= cut).max().unwrap_or(0), "{cut}");
            records.pass(&two[cut..]);
            assert!(records.is_whole());
            assert_eq!(records.unsolicited(), two.len());
            records.have_brought_data();
            assert_eq!(records.unsolicited(), 0);
        }
    }
}
