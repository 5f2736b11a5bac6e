//! Where a server is, and how to get there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use tonic::codegen::http::Uri;
use tonic::transport::Channel;

use crate::status::Cause;
use crate::tls::{Tls, TlsFault};

/// Snapshots come in few large HTTP/2 frames instead of many small ones.
const MAX_FRAME: u32 = 256 * 1024;
/// What may be under way on a stream: enough for a snapshot over a slow line.
const WINDOW: u32 = 4 * 1024 * 1024;

/// A server: `http://host:port`, `https://host:port`, or, in a test, the endpoint of a `testing::FakeServer`.
#[derive(Clone)]
pub struct Endpoint(Place);

#[derive(Clone)]
enum Place {
    Uri(Arc<str>),
    #[cfg(feature = "testing")]
    Memory(Arc<crate::testing::Dial>),
}

impl Endpoint {
    #[cfg(feature = "testing")]
    pub(crate) const fn memory(dial: Arc<crate::testing::Dial>) -> Self {
        Endpoint(Place::Memory(dial))
    }

    /// Its name, for people.
    pub fn name(&self) -> Arc<str> {
        match &self.0 {
            Place::Uri(uri) => uri.clone(),
            #[cfg(feature = "testing")]
            Place::Memory(dial) => dial.name(),
        }
    }

    /// What is wrong with it.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "nobody connects by it")
    )]
    pub(crate) fn check(&self, tls: &Tls) -> Result<(), String> {
        match &self.0 {
            Place::Uri(uri) => {
                let parsed = transport(uri)
                    .map_err(|_| format!("{uri:?} is not a URL like http://host:7400"))?;
                match parsed.uri().scheme_str() {
                    Some("http") => Ok(()),
                    #[cfg(feature = "tls")]
                    Some("https") => tls.check().map_err(|fault| format!("{uri:?}: {fault}")),
                    #[cfg(not(feature = "tls"))]
                    Some("https") => Err(format!(
                        "{uri:?}: this build has no TLS; build onair-sdk with the feature tls"
                    )),
                    Some(other) => Err(format!(
                        "{uri:?}: {other} is not supported, http and https are"
                    )),
                    None => Err(format!("{uri:?} has no scheme: write http://{uri}")),
                }
            }
            #[cfg(feature = "testing")]
            Place::Memory(_) => Ok(()),
        }
    }

    /// A connection of its own: a stream shares it with nobody.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "nobody connects by it")
    )]
    pub(crate) async fn connect(&self, timeout: Duration, tls: &Tls) -> Result<Line, Cause> {
        let connected = match &self.0 {
            Place::Uri(uri) => {
                let endpoint = transport(uri).map_err(cause)?;
                #[cfg(feature = "tls")]
                if endpoint.uri().scheme_str() == Some("https") {
                    return secure(uri, endpoint.uri(), timeout, tls).await;
                }
                endpoint.connect_timeout(timeout).connect().await
            }
            #[cfg(feature = "testing")]
            Place::Memory(dial) => {
                let endpoint = transport("http://memory").map_err(cause)?;
                endpoint.connect_with_connector(dial.connector()).await
            }
        };
        connected.map(Line::new).map_err(cause)
    }
}

/// A connection, and what TLS failed of on it, once it did.
pub(crate) struct Line {
    pub(crate) channel: Channel,
    #[cfg(feature = "tls")]
    connector: Option<crate::dial::Connector>,
}

impl Line {
    fn new(channel: Channel) -> Self {
        Line {
            channel,
            #[cfg(feature = "tls")]
            connector: None,
        }
    }

    pub(crate) fn fault(&self) -> Option<TlsFault> {
        #[cfg(feature = "tls")]
        return self.connector.as_ref()?.fault();
        #[cfg(not(feature = "tls"))]
        None
    }
}

#[cfg(feature = "tls")]
async fn secure(text: &str, uri: &Uri, timeout: Duration, tls: &Tls) -> Result<Line, Cause> {
    let connector =
        crate::dial::Connector::new(uri, tls).map_err(|fault| Arc::new(fault) as Cause)?;
    let within = transport(&text.replacen("https", "http", 1)).map_err(cause)?;
    let connected = within
        .connect_timeout(timeout)
        .connect_with_connector(connector.clone())
        .await;
    let channel = connected.map_err(|error| match connector.fault() {
        Some(fault) => Arc::new(fault) as Cause,
        None => cause(error),
    })?;
    Ok(Line {
        channel,
        connector: Some(connector),
    })
}

fn transport(uri: &str) -> Result<tonic::transport::Endpoint, tonic::transport::Error> {
    Ok(tonic::transport::Endpoint::from_shared(uri.to_owned())?
        .max_frame_size(MAX_FRAME)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW))
}

fn cause(error: tonic::transport::Error) -> Cause {
    Arc::new(error)
}

impl From<&str> for Endpoint {
    fn from(uri: &str) -> Self {
        Endpoint(Place::Uri(uri.into()))
    }
}

impl From<String> for Endpoint {
    fn from(uri: String) -> Self {
        Endpoint(Place::Uri(uri.into()))
    }
}

impl From<&String> for Endpoint {
    fn from(uri: &String) -> Self {
        Endpoint(Place::Uri(uri.as_str().into()))
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.name())
    }
}
