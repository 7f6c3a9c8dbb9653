//! TLS as a test needs it: two certificates with their keys, a client that takes exactly one certificate, and a server that
//! publishes what it is told.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
};

/// A certificate that nobody signed but itself, and its key. Good for nothing but tests.
pub struct Identity {
    certificate: &'static str,
    key: &'static str,
}

/// For `localhost` and 127.0.0.1.
pub const FIRST: Identity = Identity {
    certificate: "\
        MIIBdzCCAR6gAwIBAgIBATAKBggqhkjOPQQDAjAeMRwwGgYDVQQDDBN0b2xsZ2F0ZSB0ZXN0IGZpcnN0MCAXDTIwMDEwMTAwMDAw\
        MFoYDzIxMjAwMTAxMDAwMDAwWjAeMRwwGgYDVQQDDBN0b2xsZ2F0ZSB0ZXN0IGZpcnN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD\
        QgAEo7E5suWU3OxlT1CcutemGq3olPQcP13FOwvlUW/Fl/f4bl7d2CtW9HJqc55extjp0TiRXUFMMq6CD2ZlY9VXb6NLMEkwGgYD\
        VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYEFE3eDCPbgj+jce7/1rNPz/8yA7pVMAoGCCqG\
        SM49BAMCA0cAMEQCIHEqcNAT63/izpMqEKB7oBtLQH9uq7FaWPejbiVAU0VLAiB/6K5AoF8cpyXTum7tdXM1tK8Ed1RgkILxAYnd\
        a1dK+A==\
        ",
    key: "\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgPtqeTG11dZfnZvXiUlgiUZNC7KLuIBnuVzX40QWHmTehRANCAASj\
        sTmy5ZTc7GVPUJy616YareiU9Bw/XcU7C+VRb8WX9/huXt3YK1b0cmpznl7G2OnROJFdQUwyroIPZmVj1Vdv\
        ",
};

/// For the same names.
pub const SECOND: Identity = Identity {
    certificate: "\
        MIIBejCCASCgAwIBAgIBAjAKBggqhkjOPQQDAjAfMR0wGwYDVQQDDBR0b2xsZ2F0ZSB0ZXN0IHNlY29uZDAgFw0yMDAxMDEwMDAw\
        MDBaGA8yMTIwMDEwMTAwMDAwMFowHzEdMBsGA1UEAwwUdG9sbGdhdGUgdGVzdCBzZWNvbmQwWTATBgcqhkjOPQIBBggqhkjOPQMB\
        BwNCAARQmPMgz0z2LQ9ibLvWkvlncPx9n7HiU1CrkiqB1ZKvJt/SAZvYrDVwyQqE8yx7Bz/pMjXM4BK+UE2RVt6UFh7so0swSTAa\
        BgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwDAYDVR0TAQH/BAIwADAdBgNVHQ4EFgQUB9KPxFEughbzdWmmr7A32exd/9gwCgYI\
        KoZIzj0EAwIDSAAwRQIhAMzuH/Q/fyiNWIDJtwcr68qup7ABGlBaM5AkjRd7XGs0AiBO1Dzo25tYPFLNHjXGhhx0zcqUqn//vinP\
        09D6jj8XxA==\
        ",
    key: "\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4kmkG5lakDDT4+inDpaM5njogRCOyFoq9J7HcHPF4zChRANCAARQ\
        mPMgz0z2LQ9ibLvWkvlncPx9n7HiU1CrkiqB1ZKvJt/SAZvYrDVwyQqE8yx7Bz/pMjXM4BK+UE2RVt6UFh7s\
        ",
};

/// An RSA key and a certificate for it under the name that PayPal signs by. Nobody signed it but itself; good for nothing but tests.
pub const PAYPAL_LIKE: Identity = Identity {
    certificate: "\
        MIIDKjCCAhKgAwIBAgIBATANBgkqhkiG9w0BAQsFADAuMSwwKgYDVQQDDCNtZXNzYWdldmVyaWZpY2F0aW9uY2VydHMucGF5cGFs\
        LmNvbTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowLjEsMCoGA1UEAwwjbWVzc2FnZXZlcmlmaWNhdGlvbmNlcnRz\
        LnBheXBhbC5jb20wggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCkidV/wOaPxgvwfp0ieUtrWG1GyzAJpASBj6zVlds1\
        W0iixks99CH1sJKXLmQc2ERZJ8+4H5wWQCZFaT+nyfNk0+tk8YuR75qnTuNWoNuVtbVx1jxK1WlEa1KIlZtHDSjqSFhtUVTzqkyp\
        d+oizHKLPrluAjQHM2t4cEMzlZdLWRpXYaK7caUyAyqdLwBac/0eG6Bvb3NqjbrxSN/NuC33kypEJVumMRRe4tLV216UjhUvEKT8\
        QkYPBNviFU0S2f6DEvkyS1d+iPf9WOoMLfxlPXma9B3bUJfZWGxdZk/Zj1zNlrn+tzWKe516enxgukoyiNbvRpz0e1rqg9oRE3Pz\
        AgMBAAGjUTBPMC4GA1UdEQQnMCWCI21lc3NhZ2V2ZXJpZmljYXRpb25jZXJ0cy5wYXlwYWwuY29tMB0GA1UdDgQWBBQwmj53HxFO\
        3+GGA6Ve3MOWv2GRlTANBgkqhkiG9w0BAQsFAAOCAQEAAEfKJZxeojcsgtKyoUwSmMK7wpBhekks6h8wp3OwmJznKhtJd4nBFNLn\
        OE6d2RoAOHu2Wml6fo/A6LMIoOjWZeYKyTpity3tng0MHOCJA8Aw+5Ge92+6owQ6w0tKWsClkNGL9RXhgxiCwRpDTkXk9PrE2ZcP\
        W/oSK+MucVi5ER30UBFySwuT5zfJdrNj/CdXV7rrGotHRFa45u8+49qXqObtXtAJo+VjxcAtZxY5z13nqfWDQ3FRmyp8y5KeY4/Y\
        T8PQWNVgqtnMDZh8gJegAm3u4SI3GxT8DNnhz2OgH19YFX8wgZ++0UIrgsemOJm7JE4R8tKdPluVnyK9VKdeWA==\
        ",
    key: "\
        MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCkidV/wOaPxgvwfp0ieUtrWG1GyzAJpASBj6zVlds1W0iixks9\
        9CH1sJKXLmQc2ERZJ8+4H5wWQCZFaT+nyfNk0+tk8YuR75qnTuNWoNuVtbVx1jxK1WlEa1KIlZtHDSjqSFhtUVTzqkypd+oizHKL\
        PrluAjQHM2t4cEMzlZdLWRpXYaK7caUyAyqdLwBac/0eG6Bvb3NqjbrxSN/NuC33kypEJVumMRRe4tLV216UjhUvEKT8QkYPBNvi\
        FU0S2f6DEvkyS1d+iPf9WOoMLfxlPXma9B3bUJfZWGxdZk/Zj1zNlrn+tzWKe516enxgukoyiNbvRpz0e1rqg9oRE3PzAgMBAAEC\
        ggEAScoivGN3Qv0vd5BgyggZoa+Lelc/WON8vdoASd0l7NzeS1mgfs1QuY2RgElmzmTS6iTnjAxpBLWKNFDKImZ4SDyd8aw9ypnp\
        AqVnYP9M2uwdzkqkyW7CAdQbtHNbqtalBcSiG4yBC7HRJaNIloiXygi8QjCswpn11ZKLIMQykLBRIPmk9qREn9DdK5HgYldGfvKm\
        3aOZxB5RzZg+laRUtk6c3rFyqIGdeBxU+HroDBESxAbFVAYUcA4R0/QotOSe7xCxk8skfEmJgV7taLhBfm9/oJksRu0HFU3Hx+aq\
        dxDx3129wgPcTc3s0bTviDNC2mqR6qDYa7bgf2o8NeFUKQKBgQDiQXi+eYYXU8Kzlp4AebEi/Q8fLKrIRuGqO/+OyybfIQR1jWGp\
        wld8P0dpujjnaK8PFxpuZT8E3IKs+RQSw8EhD2LFZqNOhgmibHPKJZzNO1tqnwHpwcmtQy9H9XDl16d86tTwiqP58HIx2OKLvs4r\
        qBoiDvuiSJQej8DKaMd8FwKBgQC6K0uNUaqDXyhj5PZVdAtFCRg6/BuBUwmEY22RB9aGQVdOzXFhg1+9TP9VLAut9VytiWFzEzCU\
        CdGqFIePA8TW+WsgEBO5ku2bRizzTsl3pLjrgcMKBSa9IlWW4K1r6JllilFG33u5x6QiJZtPCCwulnCnm943Ek5PUGG8uiFkhQKB\
        gDjgkpT3gcD9enWhCGlALkqIaTPCC9C7GOGtoYnpAgWXjEJs3z9Irqt6UN6AROvPgip9+VQFOblkIamQF/67nSJNdtv++FC2G1fs\
        gZMwr2FcaZe9D0MPRz66I/mn9tCgzOb3Nb6ea6haTKrBRfoxZizNXnxvXcynCC1CoAmCG5vTAoGAOYvchMhzrrwhXg+OXYfLXAGd\
        rc30KpuiW3voiGYl18Ym2MMEgyH63CcK3icJTTKE/Vdz+gA6iegnGS3TYU/G7rSWeoi9sCVMsSyWBHecKxGN365yvYwuF1SfpE27\
        DZoOoKaKzR+TvS+K+sspINrj3Vq/Y+/4VomgD0BHlfDrFYkCgYAtXgOf2dFjO3mvP7nkZtONIrQEx+ZvxJH6n3MuilMMugtpI92U\
        6wixmYoMLMV9cD4U1WBthf8tHRKDZgc6SlGffRWOPijm3WIK35Jp61FgelzHcSjWtL0tfWc9jUpGAdxClYCCcaXKeIetzdM6EQKX\
        GimutM3ob894Jcu1vVrJmw==\
        ",
};

impl Identity {
    /// The certificate as a PEM file.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate)
    }

    /// Its key as a PEM file.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key)
    }

    /// How a server speaks TLS with it.
    ///
    /// # Panics
    /// When the certificate and the key above are none.
    pub fn server(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem().as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key_pem().as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring serves TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate and its key");
        Arc::new(config)
    }

    /// Speaks TLS over `stream`, with whoever holds this certificate's key and nobody else.
    ///
    /// # Errors
    /// When the connection breaks or the peer is somebody else.
    ///
    /// # Panics
    /// When the certificate above is none.
    pub fn connect(&self, mut stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let provider = Arc::new(ring::default_provider());
        let expected = CertificateDer::from_pem_slice(self.certificate_pem().as_bytes()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring serves TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly { expected, provider }))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

/// A request's first line and its body.
pub type Asked = (String, Vec<u8>);

/// An HTTPS server that answers every request by what it is told, one connection each. It ends with the process.
pub struct Publisher {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Publisher {
    /// # Panics
    /// When there is no port.
    pub fn start(identity: &Identity, body: &[u8]) -> Self {
        let config = identity.server();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let publisher = Self {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            answer: Arc::new(Mutex::new((200, body.to_vec()))),
        };
        let (asked, answer) = (Arc::clone(&publisher.asked), Arc::clone(&publisher.answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(connection) = ServerConnection::new(Arc::clone(&config)) else {
                    continue;
                };
                let mut stream = StreamOwned::new(connection, stream);
                let Ok(request) = read_request(&mut stream) else {
                    continue;
                };
                lock(&asked).push(request);
                let (status, body) = lock(&answer).clone();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        publisher
    }

    /// What is answered from now on.
    pub fn answer(&self, status: u16, body: &[u8]) {
        *lock(&self.answer) = (status, body.to_vec());
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }
}

fn read_request(stream: &mut impl Read) -> io::Result<Asked> {
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let bytes = stream.read(&mut piece)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&piece[..bytes]);
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        if received.len() >= end + 4 + length {
            let first = String::from_utf8_lossy(&received[..end])
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            return Ok((first, received[end + 4..].to_vec()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pem(label: &str, base64: &str) -> String {
    // Lines of 64 characters, as RFC 7468 has them.
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Takes one certificate and asks no clock: the tests run on any day.
#[derive(Debug)]
struct Exactly {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that a client can speak over, plain or not.
pub trait Connection: Read + Write {
    /// The TCP connection under it.
    fn socket(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Connection for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}
