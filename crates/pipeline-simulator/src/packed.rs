//! Lists compressed beforehand: a server that compresses takes more of the processor than what is
//! measured beside it.
//!
//! A list begins at any record, so records are compressed in groups and one by one, each part
//! without a reference to what stands before it; deflate allows to put such parts together. A page
//! is groups, and a few single records at its ends.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Records of a group. Together they are larger than the 32 KiB that deflate looks back, so little
/// is lost by cutting here.
const GROUP: usize = 10;
/// What a gzip file begins with: deflate, no name, no time.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Records that are compressed, in their order.
pub(crate) struct Packed {
    separator: &'static [u8],
    singles: Vec<Part>,
    groups: Vec<Part>,
}

/// A part of a deflate stream, and the checksum of what it stands for.
struct Part {
    deflated: Vec<u8>,
    crc: Crc,
}

impl Packed {
    /// Compresses records, which stand in lists with the separator between them.
    pub(crate) fn new<'r>(
        records: impl Iterator<Item = &'r [u8]>,
        separator: &'static [u8],
    ) -> std::io::Result<Packed> {
        let (mut singles, mut groups, mut group) = (Vec::new(), Vec::new(), Vec::new());
        for record in records {
            singles.push(Part::new(record)?);
            group.extend_from_slice(if group.is_empty() { &[] } else { separator });
            group.extend_from_slice(record);
            if singles.len().is_multiple_of(GROUP) {
                groups.push(Part::new(&group)?);
                group.clear();
            }
        }
        Ok(Packed {
            separator,
            singles,
            groups,
        })
    }

    /// A gzip file of these records with text before and after them.
    pub(crate) fn page(
        &self,
        before: &[u8],
        records: std::ops::Range<usize>,
        after: &[u8],
    ) -> Vec<u8> {
        let mut page = Page {
            gzip: Vec::with_capacity(64 << 10),
            crc: Crc::new(),
        };
        page.gzip.extend_from_slice(&HEADER);
        page.store(before, false);
        let mut at = records.start;
        while at < records.end {
            if at > records.start {
                page.store(self.separator, false);
            }
            let is_group = at.is_multiple_of(GROUP) && at + GROUP <= records.end;
            page.add(if is_group {
                &self.groups[at / GROUP]
            } else {
                &self.singles[at]
            });
            at += if is_group { GROUP } else { 1 };
        }
        page.store(after, true);
        page.gzip.extend_from_slice(&page.crc.sum().to_le_bytes());
        page.gzip
            .extend_from_slice(&page.crc.amount().to_le_bytes());
        page.gzip
    }
}

impl Part {
    fn new(text: &[u8]) -> std::io::Result<Part> {
        let mut deflated = Vec::with_capacity(text.len() + 128);
        // A full flush ends at a whole byte and forgets what it has seen.
        Compress::new(Compression::default(), false).compress_vec(
            text,
            &mut deflated,
            FlushCompress::Full,
        )?;
        deflated.shrink_to_fit();
        let mut crc = Crc::new();
        crc.update(text);
        Ok(Part { deflated, crc })
    }
}

struct Page {
    gzip: Vec<u8>,
    crc: Crc,
}

impl Page {
    fn add(&mut self, part: &Part) {
        self.gzip.extend_from_slice(&part.deflated);
        self.crc.combine(&part.crc);
    }

    /// Adds a short text as it is.
    fn store(&mut self, text: &[u8], is_last: bool) {
        let length = u16::try_from(text.len()).unwrap_or_default();
        self.gzip.push(u8::from(is_last));
        self.gzip.extend_from_slice(&length.to_le_bytes());
        self.gzip.extend_from_slice(&(!length).to_le_bytes());
        self.gzip.extend_from_slice(text);
        self.crc.update(text);
    }
}
