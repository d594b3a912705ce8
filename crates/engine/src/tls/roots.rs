//! Whom we trust: the certificates that a chain may end in. Read once per process, and shared by all clients.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use openssl_probe::ProbeResult;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::{load_certs_from_paths, load_native_certs};

use super::SetupError;

/// Files and directories whose content is kept. A program that goes through more of them than this reads them again.
const KEPT: usize = 64;

/// Trusted certificates.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: RootCertStore,
    /// The certificates themselves, where somebody has picked them one by one: a server may present one of them.
    pub(super) picked: Vec<CertificateDer<'static>>,
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

/// `SSL_CERT_FILE` and `SSL_CERT_DIR` as OpenSSL knows them.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

impl Roots {
    /// The certificates in a file (PEM) or a directory of such; without one those of `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`, else the system's, else Mozilla's.
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
        let (found, what) = match source {
            Source::Path(path, _) if path.is_dir() => {
                let found = load_certs_from_paths(None, Some(path));
                (found.certs, path.display().to_string())
            }
            Source::Path(path, _) => {
                // The error is the system's own where the file cannot be read.
                drop(fs::File::open(path).map_err(SetupError::of_file(path))?);
                (load_certs_from_paths(Some(path), None).certs, path.display().to_string())
            }
            Source::Default([None, None]) => {
                let mut found = load_native_certs().certs;
                if found.is_empty() {
                    // A variable that is set and empty is a path to it, and none to OpenSSL.
                    let ProbeResult { cert_file, cert_dir, .. } = openssl_probe::probe();
                    found = load_certs_from_paths(cert_file.as_deref(), cert_dir.first().map(PathBuf::as_path)).certs;
                }
                let store = store_of(&found);
                return Ok(if store.is_empty() { Roots::mozilla() } else { Roots { store, picked: Vec::new() } });
            }
            Source::Default([file, directory]) => {
                let named = [file, directory].into_iter().flatten().map(|value| value.to_string_lossy());
                (load_native_certs().certs, named.collect::<Vec<_>>().join(", "))
            }
        };
        let store = store_of(&found);
        if store.is_empty() {
            return Err(SetupError::Content(format!("no CA certificate in {what}")));
        }
        Ok(Roots { store, picked: found })
    }

    fn mozilla() -> Self {
        Roots { store: webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), picked: Vec::new() }
    }
}

fn store_of(certificates: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    // Bundles hold odd ones here and there, which nobody's chain ends in.
    store.add_parsable_certificates(certificates.iter().cloned());
    store
}
