//! The parser as an object that is fed: for programs that read the bytes themselves.

use std::cell::RefCell;
use std::mem;

use bytes::{Buf, BytesMut};
use engine::buffer::try_extend;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyString, PyTuple};
use wire::framing::{MethodKind, Step, close_cause};
use wire::{Body, Framing, HeadReader, InterimCount, Limits, ResponseError, ResponseHead};

use crate::convert::{contents, copied_to_array};
use crate::error::response_error;
use crate::hub::gil::GilBound;
use crate::request::fields::from_latin1;

/// A parser of responses that are fed to it in pieces of any size. It calls its own `_on_*` methods with the parts that
/// it finds, which subclasses override.
#[pyclass(frozen, subclass, weakref, module = "geventhttpclient._parser", name = "HTTPResponseParser")]
pub(crate) struct Parser(GilBound<RefCell<Option<Box<Feed>>>>);

struct Feed {
    buffer: BytesMut,
    reader: HeadReader,
    limits: Limits,
    stage: Stage,
    status: u16,
    version: &'static str,
    keep_alive: bool,
    interim: InterimCount,
}

enum Stage {
    /// Before the first byte of a message.
    Start,
    /// Within its head.
    Head,
    Body(Body),
    /// In a callback, or between two stages.
    Busy,
    /// The connection's last response has ended.
    Last,
    Failed,
}

impl Default for Feed {
    fn default() -> Self {
        Feed {
            buffer: BytesMut::new(),
            reader: HeadReader::default(),
            limits: Limits::default(),
            stage: Stage::Start,
            status: 0,
            version: "HTTP/0.0",
            keep_alive: false,
            interim: InterimCount::default(),
        }
    }
}

/// The reason why feeding stopped.
enum Stop {
    /// A callback raised.
    Callback(PyErr),
    /// The response is malformed.
    Response(ResponseError),
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Stop::Callback(error)
    }
}

impl From<ResponseError> for Stop {
    fn from(error: ResponseError) -> Self {
        Stop::Response(error)
    }
}

impl Parser {
    pub(crate) fn empty(py: Python<'_>) -> Self {
        Parser(GilBound::new(py, RefCell::new(None)))
    }

    fn with<T>(&self, py: Python<'_>, read: impl FnOnce(&Feed) -> T) -> T {
        match self.0.get(py).borrow().as_deref() {
            Some(feed) => read(feed),
            None => read(&Feed::default()),
        }
    }
}

/// One call of `feed`. The state stays in its object, borrowed only between callbacks, which may access it.
struct Feeding<'a, 'py> {
    object: &'a Bound<'py, Parser>,
}

impl Feeding<'_, '_> {
    fn state<T>(&self, change: impl FnOnce(&mut Feed) -> T) -> T {
        let mut slot = self.object.get().0.get(self.object.py()).borrow_mut();
        change(slot.get_or_insert_default())
    }

    fn call(&self, name: &Bound<'_, PyString>) -> Result<bool, Stop> {
        Ok(self.object.call_method0(name)?.is_truthy()?)
    }

    fn tell(&self, name: &Bound<'_, PyString>, text: &[u8]) -> Result<(), Stop> {
        self.object.call_method1(name, (from_latin1(self.object.py(), text),))?;
        Ok(())
    }

    /// Parses until the bytes are used up.
    fn run(&self) -> Result<(), Stop> {
        loop {
            let more = match self.state(|feed| mem::replace(&mut feed.stage, Stage::Busy)) {
                Stage::Start => self.start()?,
                Stage::Head => self.head()?,
                Stage::Body(body) => self.body(body)?,
                Stage::Last if self.state(|feed| feed.buffer.is_empty()) => {
                    self.state(|feed| feed.stage = Stage::Last);
                    false
                }
                Stage::Last => return Err(ResponseError::Glued.into()),
                Stage::Failed => return Err(failed_before()),
                Stage::Busy => return Err(fed_by_callback()),
            };
            if !more {
                return Ok(());
            }
        }
    }

    fn start(&self) -> Result<bool, Stop> {
        if self.state(|feed| feed.buffer.is_empty()) {
            self.state(|feed| feed.stage = Stage::Start);
            return Ok(false);
        }
        self.call(intern!(self.object.py(), "_on_message_begin"))?;
        self.state(|feed| feed.stage = Stage::Head);
        Ok(true)
    }

    fn head(&self) -> Result<bool, Stop> {
        let py = self.object.py();
        let parsed = self.state(|feed| feed.reader.read(&feed.buffer, &feed.limits))?;
        let Some((head, length)) = parsed else {
            self.state(|feed| feed.stage = Stage::Head);
            return Ok(false);
        };
        let framing = Framing::of(MethodKind::Other, &head);
        self.state(|feed| {
            feed.buffer.advance(length);
            feed.status = head.status;
            feed.version = head.version.as_str();
            let framed = framing.as_ref().ok();
            feed.keep_alive = framed.is_some_and(|&framing| close_cause(MethodKind::Other, &head, framing).is_none());
            if head.is_interim() {
                return feed.interim.add(length, &feed.limits);
            }
            feed.interim = InterimCount::default();
            Ok(())
        })?;
        self.tell(intern!(py, "_on_status"), head.reason())?;
        for (name, value) in head.headers.iter() {
            self.tell(intern!(py, "_on_header_field"), name)?;
            self.tell(intern!(py, "_on_header_value"), value)?;
        }
        // A true result says that no body follows, as after HEAD, and that its framing does not matter.
        let skip_body = self.call(intern!(py, "_on_headers_complete"))?;
        self.after_head(&head, if skip_body { Framing::None } else { framing? })
    }

    fn after_head(&self, head: &ResponseHead, framing: Framing) -> Result<bool, Stop> {
        if head.is_interim() || framing == Framing::None {
            if framing == Framing::None && !head.is_interim() {
                self.state(|feed| feed.keep_alive = close_cause(MethodKind::Head, head, framing).is_none());
            }
            return self.complete(head.is_interim());
        }
        self.state(|feed| feed.stage = Stage::Body(Body::new(framing, &feed.limits)));
        Ok(true)
    }

    fn body(&self, mut body: Body) -> Result<bool, Stop> {
        let py = self.object.py();
        loop {
            let (step, data) = self.state(|feed| {
                let (used, step) = body.step(&feed.buffer)?;
                feed.buffer.advance(used);
                let length = match step {
                    Step::Data(left) => feed.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
                    Step::End | Step::More => 0,
                };
                Ok::<_, ResponseError>((step, feed.buffer.split_to(length)))
            })?;
            match step {
                Step::End => return self.complete(false),
                Step::Data(_) if !data.is_empty() => {
                    body.taken(data.len() as u64);
                    // Set while the callback runs.
                    self.state(|feed| feed.stage = Stage::Body(body));
                    let called = self.object.call_method1(intern!(py, "_on_body"), (copied_to_array(py, &data)?,));
                    let stage = self.state(|feed| mem::replace(&mut feed.stage, Stage::Busy));
                    called?;
                    let Stage::Body(same) = stage else {
                        return Err(fed_by_callback());
                    };
                    body = same;
                }
                Step::Data(_) | Step::More => {
                    self.state(|feed| feed.stage = Stage::Body(body));
                    return Ok(false);
                }
            }
        }
    }

    fn complete(&self, interim: bool) -> Result<bool, Stop> {
        let last = !interim && self.state(|feed| !feed.keep_alive);
        self.call(intern!(self.object.py(), "_on_message_complete"))?;
        self.state(|feed| feed.stage = if last { Stage::Last } else { Stage::Start });
        Ok(true)
    }

    /// Ends the input.
    fn end(&self) -> Result<(), Stop> {
        match self.state(|feed| mem::replace(&mut feed.stage, Stage::Busy)) {
            Stage::Start if self.state(|feed| !feed.interim.is_empty()) => {
                Err(ResponseError::EarlyEnd("only interim responses have come").into())
            }
            Stage::Start => {
                self.state(|feed| feed.stage = Stage::Start);
                Ok(())
            }
            Stage::Last => {
                self.state(|feed| feed.stage = Stage::Last);
                Ok(())
            }
            Stage::Head => Err(ResponseError::EarlyEnd("the response's head is not complete").into()),
            Stage::Body(mut body) => {
                body.end_of_input()?;
                self.complete(false).map(drop)
            }
            Stage::Failed => Err(failed_before()),
            Stage::Busy => Err(fed_by_callback()),
        }
    }
}

fn failed_before() -> Stop {
    Stop::Response(ResponseError::EarlyEnd("the parser has failed before"))
}

fn fed_by_callback() -> Stop {
    Stop::Callback(PyRuntimeError::new_err("a callback must not feed its own parser"))
}

#[pymethods]
impl Parser {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Parser::empty(py)
    }

    /// Parses the next bytes (text counts as UTF-8); empty ones mean the end of the input.
    ///
    /// Raises HTTPParseError, whose arguments are a text and a number, and whatever a callback raises. After either,
    /// the parser has failed for good.
    fn feed(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let feeding = Feeding { object: slf };
        let taken = |bytes: &[u8]| {
            feeding.state(|feed| try_extend(&mut feed.buffer, bytes)).map_err(|_| PyMemoryError::new_err(()))?;
            Ok::<_, PyErr>(bytes.is_empty())
        };
        let at_end = if let Ok(text) = data.cast::<PyString>() {
            taken(text.to_str()?.as_bytes())?
        } else if let Ok(bytes) = data.cast::<PyBytes>() {
            taken(bytes.as_bytes())?
        } else if let Ok(bytes) = data.cast::<PyByteArray>() {
            taken(&contents(bytes)?)?
        } else {
            return Err(PyTypeError::new_err(format!("data must be str or bytes, not {}", data.get_type().name()?)));
        };
        let fed = if at_end { feeding.end() } else { feeding.run() };
        fed.map_err(|stop| {
            feeding.state(|feed| feed.stage = Stage::Failed);
            match stop {
                Stop::Callback(error) => error,
                Stop::Response(error) => response_error(py, &error),
            }
        })
    }

    /// Returns the status code of the latest head; 0 before it.
    fn get_code(&self, py: Python<'_>) -> u16 {
        self.with(py, |feed| feed.status)
    }

    /// Returns `HTTP/1.1` or `HTTP/1.0`; `HTTP/0.0` before a head.
    fn get_http_version(&self, py: Python<'_>) -> &'static str {
        self.with(py, |feed| feed.version)
    }

    /// Returns how many bytes of a counted body have not been fed; 0 for other framings.
    fn get_remaining_content_length(&self, py: Python<'_>) -> u64 {
        self.with(py, |feed| match &feed.stage {
            Stage::Body(body) => body.remaining().unwrap_or(0),
            _ => 0,
        })
    }

    /// Returns whether the connection can be reused after this response (RFC 9112 section 9.3).
    fn should_keep_alive(&self, py: Python<'_>) -> bool {
        self.with(py, |feed| feed.keep_alive && !matches!(feed.stage, Stage::Failed))
    }

    /// Returns whether the input was malformed, or a callback has raised.
    fn parser_failed(&self, py: Python<'_>) -> bool {
        self.with(py, |feed| matches!(feed.stage, Stage::Failed))
    }

    /// Called when a response begins.
    fn _on_message_begin(&self) {}

    /// Called with the reason phrase, a str.
    fn _on_status(&self, _reason: &Bound<'_, PyAny>) {}

    /// Called with the name of a header line, a str.
    fn _on_header_field(&self, _name: &Bound<'_, PyAny>) {}

    /// Called with the value of that line, a str.
    fn _on_header_value(&self, _value: &Bound<'_, PyAny>) {}

    /// Called at the end of the head. A true result says that no body follows.
    fn _on_headers_complete(&self) -> bool {
        false
    }

    /// Called with a piece of the body without its framing, a bytearray.
    fn _on_body(&self, _data: &Bound<'_, PyAny>) {}

    /// Called at the end of the response.
    fn _on_message_complete(&self) {}
}
