//! The certificates that a chain may end in. Read once per process, and shared by all clients.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::SetupError;
use super::store::{self, Found};
use super::trusted::{Trusted, Unfit};

/// Files and directories whose content is kept. A program that goes through more of them than this reads them again.
const KEPT: usize = 64;

/// Trusted certificates.
#[derive(Debug, Default)]
pub(super) struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The certificates behind the anchors, in the same order.
    trusted: Vec<Trusted>,
}

/// What was read, and would have to be read again if it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The system's store, or what these variables of the environment name in its place.
    Default([Option<OsString>; 2]),
    /// A file or a directory, as it was then.
    Path(PathBuf, Stamp),
}

/// A file that is written anew, or put in the place of another, has another one, whatever date it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    /// Device and number.
    file: (u64, u64),
    length: u64,
    /// Of the content, and of anything: in seconds and nanoseconds.
    changed: [(i64, i64); 2],
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Result<Self, SetupError> {
        fs::metadata(path).map(|metadata| Stamp::from(&metadata)).map_err(SetupError::of_file(path))
    }
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

/// The variables that name what to trust, as OpenSSL knows them.
pub(super) const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

impl Roots {
    /// Returns the certificates in a PEM file or a directory of such; without one those that [`VARIABLES`] name, else
    /// the system's, else Mozilla's. Nothing is kept of what cannot be read in full.
    pub(super) fn of(path: Option<&Path>) -> Result<Arc<Self>, SetupError> {
        static READ: Mutex<Option<HashMap<Source, Arc<Roots>>>> = Mutex::new(None);
        let source = match path {
            Some(path) => Source::Path(path.to_owned(), Stamp::of(path)?),
            None => Source::Default(VARIABLES.map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))),
        };
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.get_or_insert_default();
        if let Some(roots) = read.get(&source) {
            return Ok(roots.clone());
        }
        let roots = Arc::new(Roots::read(&source)?);
        if read.len() >= KEPT {
            read.clear();
        }
        read.insert(source, roots.clone());
        Ok(roots)
    }

    fn read(source: &Source) -> Result<Self, SetupError> {
        match source {
            Source::Path(path, _) => Roots::named(store::read(path)?, path),
            Source::Default([None, None]) => Ok(match store::read_system()? {
                // Bundles hold odd ones here and there, in which no chain ends.
                Some(found) => Roots::usable(found.into_iter().map(|(_, certificate)| certificate)),
                None => Roots::usable(TLS_SERVER_ROOT_CERTS.iter().cloned()),
            }),
            Source::Default(named) => Roots::of_variables(named),
        }
    }

    /// As OpenSSL has it, a directory or the file may be missing, as long as the rest holds certificates. Whatever is
    /// there has to be readable.
    fn of_variables(named: &[Option<OsString>; 2]) -> Result<Self, SetupError> {
        let (mut roots, mut missing) = (Roots::default(), None);
        for (variable, value) in VARIABLES.into_iter().zip(named) {
            let Some(value) = value else { continue };
            let is_file = variable == VARIABLES[0];
            let paths = if is_file { vec![PathBuf::from(value)] } else { std::env::split_paths(value).collect() };
            for path in paths.iter().filter(|path| !path.as_os_str().is_empty()) {
                let found = match store::read(path) {
                    Err(SetupError::File(path, error)) if error.kind() == ErrorKind::NotFound => {
                        missing.get_or_insert(SetupError::File(path, error).named_by(variable));
                        continue;
                    }
                    // A directory may be empty, beside others.
                    Ok(found) if found.is_empty() && !is_file => {
                        missing.get_or_insert(no_certificate(path).named_by(variable));
                        continue;
                    }
                    found => found.and_then(|found| Roots::named(found, path)),
                };
                roots.append(found.map_err(|error| error.named_by(variable))?);
            }
        }
        match missing {
            Some(missing) if roots.trusted.is_empty() => Err(missing),
            _ => Ok(roots),
        }
    }

    /// Makes use of certificates that were chosen by name: each has to be of use.
    fn named(found: Vec<Found>, source: &Path) -> Result<Self, SetupError> {
        let mut roots = Roots::default();
        for (path, certificate) in found {
            let (anchor, trusted) = Trusted::read(certificate).map_err(|why| {
                SetupError::Content(format!("a certificate in {} cannot be read: {why}", path.display()))
            })?;
            roots.anchors.push(anchor);
            roots.trusted.push(trusted);
        }
        if roots.trusted.is_empty() {
            return Err(no_certificate(source));
        }
        Ok(roots)
    }

    /// Makes use of those certificates that are of use.
    fn usable(certificates: impl Iterator<Item = CertificateDer<'static>>) -> Self {
        let (anchors, trusted) = certificates.filter_map(|certificate| Trusted::read(certificate).ok()).unzip();
        Roots { anchors, trusted }
    }

    fn append(&mut self, mut other: Roots) {
        self.anchors.append(&mut other.anchors);
        self.trusted.append(&mut other.trusted);
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// Returns the trusted certificate that a server itself shows, if it is one.
    pub(super) fn shown(&self, certificate: &CertificateDer<'_>) -> Option<&Trusted> {
        self.trusted.iter().find(|trusted| trusted.is(certificate))
    }

    /// Checks the constraints of the certificate that `path` ends in. Where several have the same name and key, one of
    /// them has to allow it.
    pub(super) fn check_path(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<(), Option<Unfit>> {
        let mut unfit = None;
        for (anchor, trusted) in self.anchors.iter().zip(&self.trusted) {
            if anchor == path.anchor() {
                match trusted.check_path(path, now) {
                    Ok(()) => return Ok(()),
                    Err(why) => unfit = Some(why),
                }
            }
        }
        Err(unfit)
    }
}

pub(super) fn no_certificate(source: &Path) -> SetupError {
    SetupError::Content(format!("no CA certificate in {}", source.display()))
}
