//! The trusted certificates, in which a chain may end. They are read once per process, and shared by all clients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::error::{SetupError, is_missing};
use super::store::{self, Found, Stamp, VARIABLES, no_certificate};
use super::trusted::{Trusted, Unfit};

/// Maximum number of files and directories whose contents are cached. A program that uses more of them reads them
/// again.
const KEPT: usize = 64;

/// Trusted certificates.
#[derive(Debug, Default)]
pub(super) struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The certificates behind the anchors, in the same order.
    trusted: Vec<Trusted>,
    /// A file that contains the first of them, and their number.
    file: Option<PathBuf>,
    in_file: usize,
}

/// The source of certificates, which has to be read again if it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The system's store, which is read once.
    System,
    /// The files and directories that the program or environment variables name.
    Named(Vec<Place>),
}

/// A file or a directory, in its state at the time it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    path: PathBuf,
    /// The environment variable that named it, None if the program did.
    variable: Option<&'static str>,
    /// Stamps of the file or directory and its entries; empty if it is missing. They distinguish relative paths, too.
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

    /// Returns true if any later change is visible in the stamps. File times may be as coarse as two seconds.
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

/// Trusted certificates, for other implementations of TLS.
pub struct Authorities {
    /// A file that contains them. None for Mozilla's, too.
    pub file: Option<PathBuf>,
    /// The certificates that are not in it (X.509, DER), one after the other.
    pub others: Vec<u8>,
}

/// Returns the certificates that clients trust, read completely as for them: those of a file or a directory, or the
/// default ones if `path` is None.
pub fn authorities(path: Option<&Path>) -> Result<Authorities, SetupError> {
    let roots = Roots::of(path)?;
    let others = roots.trusted.iter().skip(roots.in_file).flat_map(|trusted| trusted.der().iter().copied());
    Ok(Authorities { file: roots.file.clone(), others: others.collect() })
}

impl Roots {
    /// Returns the certificates in a PEM file or a directory of PEM files. If `path` is None, returns those that
    /// [`VARIABLES`] name, or else the system's, or else Mozilla's. Nothing is cached of a source that cannot be read
    /// completely.
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
                    // Bundles contain a few malformed ones, in which no chain ends.
                    Some(found) => Roots::usable(found.into_iter().map(|(_, certificate)| certificate)),
                    None => Roots::usable(TLS_SERVER_ROOT_CERTS.iter().cloned()),
                };
                let in_file = if is_elsewhere { roots.trusted.len() } else { 0 };
                Ok(Roots { file, in_file, ..roots })
            }
            Source::Named(places) => Roots::of_places(places),
        }
    }

    /// Reads all places. As with OpenSSL, a place that a variable names may be missing as long as the others contain
    /// certificates. Everything that exists has to be readable.
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
                // A directory may be empty if there are others.
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

    /// Uses certificates that were chosen by name: each has to be usable.
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

    /// Uses those certificates that are usable.
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

    /// Returns the trusted certificate that equals the server's own, None if the server's is not trusted itself.
    pub(super) fn shown(&self, certificate: &CertificateDer<'_>) -> Option<&Trusted> {
        self.trusted.iter().find(|trusted| trusted.is(certificate))
    }

    /// Checks the constraints of the certificate in which `path` ends. If several have the same name and key, one of
    /// them has to allow the path.
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
