//! The certificates that a chain may end in. Read once per process, and shared by all clients.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::store::{self, Found};
use super::trusted::{Trusted, Unfit};
use super::{SetupError, is_missing};

/// Files and directories whose content is kept. A program that goes through more of them than this reads them again.
const KEPT: usize = 64;

/// Trusted certificates.
#[derive(Debug, Default)]
pub(super) struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The certificates behind the anchors, in the same order.
    trusted: Vec<Trusted>,
    /// A file that holds the first of them, and how many.
    file: Option<PathBuf>,
    in_file: usize,
}

/// What was read, and would have to be read again if it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The system's store, which is read once.
    System,
    /// What the program or these variables of the environment name.
    Named(Vec<Place>),
}

/// A file or a directory, as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    path: PathBuf,
    /// Who has named it, if it was not the program itself.
    variable: Option<&'static str>,
    /// Of the place and its entries; none if it is missing. They tell relative paths apart, too.
    stamps: Vec<Stamp>,
}

impl Place {
    fn new(path: PathBuf, variable: Option<&'static str>) -> Result<Self, SetupError> {
        let stamps = match (store::stamps(&path), variable) {
            (Ok(stamps), _) => stamps,
            (Err(SetupError::File(_, error)), Some(_)) if is_missing(&error) => Vec::new(),
            (Err(error), Some(variable)) => return Err(error.named_by(variable)),
            (Err(error), None) => return Err(error),
        };
        Ok(Place { path, variable, stamps })
    }
}

impl Source {
    fn of_variables() -> Result<Self, SetupError> {
        let mut named = Vec::new();
        for variable in VARIABLES {
            let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else { continue };
            let is_file = variable == VARIABLES[0];
            let mut paths: Vec<_> =
                if is_file { vec![PathBuf::from(value)] } else { std::env::split_paths(&value).collect() };
            paths.retain(|path| !path.as_os_str().is_empty());
            if paths.is_empty() {
                return Err(SetupError::Content("no directory".to_owned()).named_by(variable));
            }
            for path in paths {
                named.push(Place::new(path, Some(variable))?);
            }
        }
        Ok(if named.is_empty() { Source::System } else { Source::Named(named) })
    }

    /// Whether any later change shows in the stamps. Clocks of files may be as coarse as two seconds.
    fn is_settled(&self) -> bool {
        const COARSEST: u64 = 2;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let settled = |stamp: &Stamp| stamp.changed[1].0 < since.saturating_sub(COARSEST).cast_signed();
        match self {
            Source::System => true,
            Source::Named(places) => places.iter().flat_map(|place| &place.stamps).all(settled),
        }
    }
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

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Stamp {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            changed: [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())],
        }
    }
}

/// Trusted certificates, for other implementations of TLS.
pub struct Authorities {
    /// A file that holds them. None for Mozilla's, too.
    pub file: Option<PathBuf>,
    /// Those that are not in it (X.509, DER), one after the other.
    pub others: Vec<u8>,
}

/// Returns what clients trust, read in full as theirs is: what a file or a directory holds, without one what is trusted
/// by default.
pub fn authorities(path: Option<&Path>) -> Result<Authorities, SetupError> {
    let roots = Roots::of(path)?;
    let others = roots.trusted.iter().skip(roots.in_file).flat_map(|trusted| trusted.der().iter().copied());
    Ok(Authorities { file: roots.file.clone(), others: others.collect() })
}

/// The variables that name what to trust, as OpenSSL knows them.
pub(super) const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

impl Roots {
    /// Returns the certificates in a PEM file or a directory of such; without one those that [`VARIABLES`] name, else
    /// the system's, else Mozilla's. Nothing is kept of what cannot be read in full.
    pub(super) fn of(path: Option<&Path>) -> Result<Arc<Self>, SetupError> {
        static READ: Mutex<Option<HashMap<Source, Arc<Roots>>>> = Mutex::new(None);
        let source = match path {
            Some(path) => Source::Named(vec![Place::new(path.to_owned(), None)?]),
            None => Source::of_variables()?,
        };
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.get_or_insert_default();
        if let Some(roots) = read.get(&source) {
            return Ok(roots.clone());
        }
        let roots = Arc::new(Roots::read(&source)?);
        if source.is_settled() {
            if read.len() >= KEPT {
                read.clear();
            }
            read.insert(source, roots.clone());
        }
        Ok(roots)
    }

    fn read(source: &Source) -> Result<Self, SetupError> {
        match source {
            Source::System => {
                let found = store::read_system()?;
                let file = store::bundle()?;
                let is_elsewhere = file.is_some() || found.is_none();
                let roots = match found {
                    // Bundles hold odd ones here and there, in which no chain ends.
                    Some(found) => Roots::usable(found.into_iter().map(|(_, certificate)| certificate)),
                    None => Roots::usable(TLS_SERVER_ROOT_CERTS.iter().cloned()),
                };
                let in_file = if is_elsewhere { roots.trusted.len() } else { 0 };
                Ok(Roots { file, in_file, ..roots })
            }
            Source::Named(places) => Roots::of_places(places),
        }
    }

    /// As OpenSSL has it, what a variable names may be missing, as long as the rest holds certificates. Whatever is
    /// there has to be readable.
    fn of_places(places: &[Place]) -> Result<Self, SetupError> {
        let (mut roots, mut missing) = (Roots::default(), None);
        for Place { path, variable, .. } in places {
            let named_by = |error: SetupError| match variable {
                Some(variable) => error.named_by(variable),
                None => error,
            };
            let found = match store::read(path) {
                Err(SetupError::File(path, error)) if variable.is_some() && is_missing(&error) => {
                    missing.get_or_insert(named_by(SetupError::File(path, error)));
                    continue;
                }
                // A directory may be empty, beside others.
                Ok(found) if found.is_empty() && *variable == Some(VARIABLES[1]) => {
                    missing.get_or_insert(named_by(no_certificate(path)));
                    continue;
                }
                found => found.map_err(named_by)?,
            };
            let is_file = found.iter().all(|(file, _)| file == path);
            let is_first = roots.trusted.is_empty();
            roots.append(Roots::named(found, path).map_err(named_by)?);
            if is_first && is_file {
                (roots.file, roots.in_file) = (Some(path.clone()), roots.trusted.len());
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
        Roots { anchors, trusted, ..Roots::default() }
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
