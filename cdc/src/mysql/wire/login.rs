//! The beginning of a connection: greeting, TLS, password.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>; the messages and the
//! passwords' scrambling are `mysql_common`'s.

use mysql_async::consts::CapabilityFlags;
use mysql_async::{DriverError, Error};
use mysql_common::crypto;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest,
};
use mysql_common::proto::MySerialize;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::packets::{Packets, Transport};
use super::{Endpoint, KEEPALIVE, PACKET_MAX, server_error, unexpected};

const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const SWITCH: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// caching_sha2_password: the server remembers the password's hash, and wants no more.
const FAST: u8 = 0x03;
/// caching_sha2_password: it does not, and wants the password itself.
const FULL: u8 = 0x04;
/// caching_sha2_password: asks for the key to encrypt the password with.
const ASK_KEY: &[u8] = &[0x02];
/// utf8mb4_general_ci, for the SQL that we send.
const COLLATION: u8 = 45;
/// More rounds than any plugin takes.
const ROUNDS_MAX: usize = 16;

/// Connects and logs in.
pub(super) async fn login(endpoint: &Endpoint) -> Result<Packets, Error> {
    let tcp = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    let mut packets = Packets::new(Transport::Plain(tcp));
    let greeting = packets.next().await?;
    if greeting.first() == Some(&ERROR) {
        return Err(server_error(&greeting));
    }
    let greeting: HandshakePacket<'_> = ParseBuf(&greeting).parse(())?;
    let mut capabilities = greeting.capabilities() & wanted();
    if let Some(tls) = &endpoint.tls {
        if greeting
            .capabilities()
            .contains(CapabilityFlags::CLIENT_SSL)
        {
            capabilities |= CapabilityFlags::CLIENT_SSL;
            let ask = SslRequest::new(capabilities, PACKET_MAX, COLLATION);
            packets.send(&serialized(&ask)).await?;
            packets = encrypted(packets, &endpoint.host, tls.config.clone()).await?;
        } else if !tls.optional {
            return Err(DriverError::NoClientSslFlagFromServer.into());
        }
    }
    let plugin = match greeting.auth_plugin() {
        Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
        // Whatever it is: the server asks for a switch if it wants another.
        _ => AuthPlugin::MysqlNativePassword,
    };
    let password = endpoint.password.as_deref();
    let mut login = Login {
        nonce: greeting.nonce(),
        plugin,
        password,
        packets,
    };
    let proof = login.plugin.gen_data(password, &login.nonce);
    let attributes = [("program_name".to_owned(), "onair".to_owned())];
    let answer = HandshakeResponse::new(
        proof.as_deref(),
        // Only decides the collation, which every supported server has.
        (8, 0, 0),
        Some(endpoint.user.as_bytes()),
        None::<Vec<u8>>,
        Some(login.plugin.borrow()),
        capabilities,
        capabilities
            .contains(CapabilityFlags::CLIENT_CONNECT_ATTRS)
            .then(|| attributes.into()),
        PACKET_MAX,
    );
    let answer = serialized(&answer);
    login.packets.send(&answer).await?;
    login.finish().await
}

fn wanted() -> CapabilityFlags {
    CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_CONNECT_ATTRS
}

async fn encrypted(
    packets: Packets,
    host: &str,
    config: std::sync::Arc<rustls::ClientConfig>,
) -> Result<Packets, Error> {
    let (transport, sequence) = packets.into_transport()?;
    let Transport::Plain(tcp) = transport else {
        return Err(DriverError::NoClientSslFlagFromServer.into());
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|err| mysql_async::IoError::Tls(mysql_async::TlsError::InvalidDnsName(err)))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    Ok(Packets::resumed(Transport::Tls(Box::new(tls)), sequence))
}

fn serialized(message: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.serialize(&mut bytes);
    bytes
}

/// The exchange about the password.
struct Login<'a> {
    packets: Packets,
    plugin: AuthPlugin<'static>,
    nonce: Vec<u8>,
    password: Option<&'a str>,
}

impl Login<'_> {
    async fn finish(mut self) -> Result<Packets, Error> {
        let mut switched = false;
        for _ in 0..ROUNDS_MAX {
            let packet = self.packets.next().await?;
            match packet.first() {
                Some(&OK) => return Ok(self.packets),
                Some(&ERROR) => return Err(server_error(&packet)),
                Some(&SWITCH) if !switched => {
                    switched = true;
                    self.switch(&packet).await?;
                }
                _ => match &self.plugin {
                    AuthPlugin::CachingSha2Password => self.caching_sha2(&packet).await?,
                    AuthPlugin::MariadbParsec { .. } => self.parsec(&packet).await?,
                    _ => return Err(unexpected(&packet)),
                },
            }
        }
        Err(DriverError::PacketOutOfOrder.into())
    }

    /// The account has another plugin than the server's default.
    async fn switch(&mut self, packet: &[u8]) -> Result<(), Error> {
        if packet.len() == 1 {
            return Err(DriverError::MysqlOldPasswordDisabled.into());
        }
        let request: AuthSwitchRequest<'_> = ParseBuf(packet).parse(())?;
        self.nonce = request.plugin_data().to_vec();
        self.plugin = request.auth_plugin().into_owned();
        let proof = match &self.plugin {
            AuthPlugin::CachingSha2Password
            | AuthPlugin::MysqlNativePassword
            | AuthPlugin::Ed25519 => self.plugin.gen_data(self.password, &self.nonce),
            // It sends its salt first.
            AuthPlugin::MariadbParsec { .. } => None,
            AuthPlugin::MysqlOldPassword => {
                return Err(DriverError::MysqlOldPasswordDisabled.into());
            }
            AuthPlugin::MysqlClearPassword => {
                return Err(DriverError::CleartextPluginDisabled.into());
            }
            AuthPlugin::Other(name) => {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(DriverError::UnknownAuthPlugin { name }.into());
            }
        };
        let proof = proof.map(|proof| serialized(&proof)).unwrap_or_default();
        Ok(self.packets.send(&proof).await?)
    }

    async fn caching_sha2(&mut self, packet: &[u8]) -> Result<(), Error> {
        match packet {
            [MORE_DATA, FAST] => Ok(()),
            [MORE_DATA, FULL] => {
                let mut password = self.password.unwrap_or_default().as_bytes().to_vec();
                password.push(0);
                if !self.packets.is_encrypted() {
                    password = self.for_the_servers_key(password).await?;
                }
                Ok(self.packets.send(&password).await?)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Without TLS the password goes encrypted with the server's RSA key.
    async fn for_the_servers_key(&mut self, mut password: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.packets.send(ASK_KEY).await?;
        let answer = self.packets.next().await?;
        match answer.first() {
            Some(&MORE_DATA) => {}
            Some(&ERROR) => return Err(server_error(&answer)),
            _ => return Err(unexpected(&answer)),
        }
        for (byte, mask) in password.iter_mut().zip(self.nonce.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(crypto::encrypt(&password, &answer[1..]))
    }

    /// The salt, with or without the byte that says "more data" before it.
    async fn parsec(&mut self, packet: &[u8]) -> Result<(), Error> {
        let salt = packet.strip_prefix(&[MORE_DATA]).unwrap_or(packet);
        let known = self.plugin.read_add_data(salt);
        known.ok_or(DriverError::InvalidParsecSalt)?;
        let proof = self.plugin.gen_data(self.password, &self.nonce);
        let proof = proof.map(|proof| serialized(&proof)).unwrap_or_default();
        Ok(self.packets.send(&proof).await?)
    }
}
