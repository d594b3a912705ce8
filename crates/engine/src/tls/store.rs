//! The sources of trusted certificates: files, directories, and the system's store.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::error::{SetupError, is_missing};
use super::pem;

/// OpenSSL's environment variables that name the trusted certificates.
pub(super) const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

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

/// A certificate, and the file in which it was found.
pub(super) type Found = (PathBuf, CertificateDer<'static>);

/// Reads all certificates of a PEM file, or of the PEM files in a directory. One that cannot be read is an error: the
/// set of trusted certificates must not depend on which files were readable at the moment.
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

/// Reads a regular file. A FIFO or a device could block the thread, and with it every greenlet.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, SetupError> {
    let failed = SetupError::of_file(path);
    // Other kinds of files are not even opened; the opened file is checked again, as it may have replaced this one.
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

/// Identity and state of a file. A file that is written again, or replaces another one, has a different stamp, whatever
/// modification time it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    /// Device and inode number.
    file: (u64, u64),
    length: u64,
    /// Times of the last change of the contents, and of the last change of any kind: in seconds and nanoseconds.
    pub(super) changed: [(i64, i64); 2],
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Stamp {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            changed: [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())],
        }
    }
}

/// Returns the stamps that reveal a later change of a file, or of any entry of a directory. Links are followed.
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

pub(super) fn no_certificate(source: &Path) -> SetupError {
    SetupError::Content(format!("no CA certificate in {}", source.display()))
}

fn read_directory(directory: &Path) -> Result<Vec<Found>, SetupError> {
    let mut found = Vec::new();
    // Most certificates have several names there, of which all but one are links.
    let mut seen = HashSet::new();
    for entry in fs::read_dir(directory).map_err(SetupError::of_file(directory))? {
        let path = entry.map_err(SetupError::of_file(directory))?.path();
        // A dangling link names no certificate.
        let Some(metadata) = metadata(&path)? else { continue };
        if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) {
            found.append(&mut read_file(&path)?);
        }
    }
    Ok(found)
}

/// Reads the system's store: its bundle, or else the first of its directories that contains certificates. Returns None
/// if the system has no store.
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

/// Returns the file in which the system keeps its trusted certificates, None if it has no such file.
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

/// Returns the metadata of a file, None if nothing of that name exists. Any other failure is an error: there may be a
/// file.
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
    if VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
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
    fn an_inaccessible_place_is_an_error_and_a_missing_one_is_skipped() {
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
