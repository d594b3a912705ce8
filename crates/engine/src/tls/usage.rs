//! The key usage of a certificate (RFC 5280 section 4.2.1.3): webpki does not check it, OpenSSL does.

use x509_cert::der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use x509_cert::der::{self, Decode, Reader, SliceReader, TagNumber, Tagged};
use x509_cert::ext::Extension;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// digitalSignature, keyEncipherment and keyAgreement: a server needs one of them.
const SERVES: u8 = 0x80 | 0x20 | 0x08;

/// keyCertSign.
const SIGNS: u8 = 0x04;

/// Returns true if the certificate's key may be used in a server's handshake.
pub(super) fn permits_serving(certificate: &[u8]) -> bool {
    permits(certificate, SERVES)
}

/// Returns true if the certificate's key may sign other certificates.
pub(super) fn permits_signing(certificate: &[u8]) -> bool {
    permits(certificate, SIGNS)
}

/// Returns true if the key usage includes one of `any_of`. Without the extension everything is permitted; an extension
/// that cannot be read permits nothing.
fn permits(certificate: &[u8], any_of: u8) -> bool {
    key_usage(certificate).is_ok_and(|bits| bits.is_none_or(|bits| bits & any_of != 0))
}

/// Returns the first eight bits of the extension. The other fields are skipped: this is done in each handshake.
fn key_usage(certificate: &[u8]) -> der::Result<Option<u8>> {
    let to_be_signed = AnyRef::decode(&mut SliceReader::new(AnyRef::from_der(certificate)?.value())?)?;
    let mut fields = SliceReader::new(to_be_signed.value())?;
    while !fields.is_finished() {
        let field = AnyRef::decode(&mut fields)?;
        let tag = field.tag();
        if !(tag.is_context_specific() && tag.number() == TagNumber(3)) {
            continue;
        }
        let mut extensions = SliceReader::new(AnyRef::from_der(field.value())?.value())?;
        while !extensions.is_finished() {
            let extension = Extension::decode(&mut extensions)?;
            if extension.extn_id == KEY_USAGE {
                let bits = BitStringRef::from_der(extension.extn_value.as_bytes())?;
                return Ok(Some(bits.raw_bytes().first().copied().unwrap_or(0)));
            }
        }
    }
    Ok(None)
}
