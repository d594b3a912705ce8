//! Places where trusted certificates are kept: files, directories, and the system's store.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::roots::{Stamp, no_certificate};
use super::{SetupError, is_missing, pem};

/// Files in which systems keep all of their trusted certificates.
const BUNDLES: [&str; 11] = [
    "/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL, older ones
    "/etc/ssl/ca-bundle.pem",                            // openSUSE
    "/etc/pki/tls/cacert.pem",                           // OpenELEC
    "/etc/ssl/cert.pem",                                 // Alpine, macOS, OpenBSD
    "/opt/etc/ssl/certs/ca-certificates.crt",            // Entware
    "/etc/ssl/certs/cacert.pem",                         // OpenHarmony
    "/usr/local/etc/ssl/cert.pem",                       // FreeBSD
    "/usr/local/share/certs/ca-root-nss.crt",            // FreeBSD, older ones
    "/etc/openssl/certs/ca-certificates.crt",            // NetBSD
];

/// Directories in which systems keep them one by one.
const DIRECTORIES: [&str; 5] = [
    "/etc/ssl/certs",             // most
    "/etc/pki/tls/certs",         // Fedora, RHEL
    "/etc/security/certificates", // OpenHarmony
    "/usr/local/share/certs",     // FreeBSD
    "/etc/openssl/certs",         // NetBSD
];

/// A certificate, and the file that it was found in.
pub(super) type Found = (PathBuf, CertificateDer<'static>);

/// Reads all certificates of a PEM file, or of the PEM files in a directory. One that cannot be read is an error: what
/// is trusted must not depend on what could be read at the moment.
pub(super) fn read(path: &Path) -> Result<Vec<Found>, SetupError> {
    if fs::metadata(path).map_err(SetupError::of_file(path))?.is_dir() { read_directory(path) } else { read_file(path) }
}

fn read_file(path: &Path) -> Result<Vec<Found>, SetupError> {
    Ok(certificates(path)?.into_iter().map(|certificate| (path.to_owned(), certificate)).collect())
}

/// Reads all certificates of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let damaged = |why| SetupError::Content(format!("{} is damaged: {why}", path.display()));
    pem::certificates(&contents(path)?).map_err(damaged)
}

/// Reads a regular file. A FIFO or a device could keep us waiting, and every greenlet with us.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, SetupError> {
    let failed = SetupError::of_file(path);
    // Nothing else is even opened; what is opened may have taken its place in the meantime.
    refuse_special(path, &fs::metadata(path).map_err(&failed)?)?;
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file: File = opened.map_err(&failed)?;
    refuse_special(path, &file.metadata().map_err(&failed)?)?;
    let mut contents = Vec::new();
    file.read_to_end(&mut contents).map_err(&failed)?;
    Ok(contents)
}

fn refuse_special(path: &Path, metadata: &Metadata) -> Result<(), SetupError> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(SetupError::File(path.to_owned(), io::Error::from_raw_os_error(libc::EISDIR)))
    } else {
        Err(SetupError::Content(format!("{} is not a regular file, and is not read", path.display())))
    }
}

/// Returns what tells whether a file, or any entry of a directory, has changed since. Links are followed.
pub(super) fn stamps(path: &Path) -> Result<Vec<Stamp>, SetupError> {
    let failed = SetupError::of_file(path);
    let itself = fs::metadata(path).map_err(&failed)?;
    let mut stamps = vec![Stamp::from(&itself)];
    if itself.is_dir() {
        for entry in fs::read_dir(path).map_err(&failed)? {
            stamps.extend(metadata(&entry.map_err(&failed)?.path())?.as_ref().map(Stamp::from));
        }
    }
    Ok(stamps)
}

fn read_directory(directory: &Path) -> Result<Vec<Found>, SetupError> {
    let mut found = Vec::new();
    // Most certificates have several names there, of which all but one are links.
    let mut seen = HashSet::new();
    for entry in fs::read_dir(directory).map_err(SetupError::of_file(directory))? {
        let path = entry.map_err(SetupError::of_file(directory))?.path();
        // A link to what is gone names no certificate.
        let Some(metadata) = metadata(&path)? else { continue };
        if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) {
            found.append(&mut read_file(&path)?);
        }
    }
    Ok(found)
}

/// Reads the system's store: its bundle, else the first of its directories that holds any certificates. None if the
/// system has no store.
pub(super) fn read_system() -> Result<Option<Vec<Found>>, SetupError> {
    #[cfg(target_os = "macos")]
    if let Some(found) = read_keychain()? {
        return Ok(Some(found));
    }
    if let Some(bundle) = bundle()? {
        let found = read_file(&bundle)?;
        if found.is_empty() {
            return Err(no_certificate(&bundle));
        }
        return Ok(Some(found));
    }
    for directory in DIRECTORIES.map(Path::new) {
        if metadata(directory)?.is_some_and(|metadata| metadata.is_dir()) {
            let found = read_directory(directory)?;
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// Returns the file in which the system keeps its trusted certificates, None if it has none.
pub(super) fn bundle() -> Result<Option<PathBuf>, SetupError> {
    first_of(&BUNDLES)
}

fn first_of(places: &[&str]) -> Result<Option<PathBuf>, SetupError> {
    for place in places.iter().map(Path::new) {
        if metadata(place)?.is_some() {
            return Ok(Some(place.to_owned()));
        }
    }
    Ok(None)
}

/// Returns None if nothing of that name exists. Any other failure to look is an error: something may be there.
fn metadata(path: &Path) -> Result<Option<Metadata>, SetupError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(SetupError::File(path.to_owned(), error)),
    }
}

/// Reads the keychain, unless a variable is set for which rustls-native-certs would look elsewhere.
#[cfg(target_os = "macos")]
fn read_keychain() -> Result<Option<Vec<Found>>, SetupError> {
    if super::roots::VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(None);
    }
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.first() {
        return Err(SetupError::Content(format!("the keychain cannot be read: {error}")));
    }
    let certificates = found.certs.into_iter().map(|certificate| (PathBuf::from("the keychain"), certificate));
    let certificates: Vec<_> = certificates.collect();
    Ok((!certificates.is_empty()).then_some(certificates))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_an_error_and_what_is_not_there_is_passed_over() {
        let directory = std::env::temp_dir().join(format!("geventhttpclient-store-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let place = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let (missing, looped, there) = (place("missing"), place("looped"), place("there"));
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        fs::write(&there, "").unwrap();
        let below = format!("{there}/file");
        let found = first_of(&[&missing, &below, &there, &looped]);
        let none = first_of(&[&missing, &below]);
        let error = first_of(&[&missing, &looped, &there]);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found.unwrap(), Some(PathBuf::from(there)));
        assert_eq!(none.unwrap(), None);
        assert!(matches!(error, Err(SetupError::File(path, _)) if path == Path::new(&looped)));
    }
}
