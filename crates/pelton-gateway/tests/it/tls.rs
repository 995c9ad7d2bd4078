//! Encrypted connections: what was said arrives whole and in order however it is cut; who does not come to terms ends alone
//! and is counted; a certificate that cannot be is told with its file.

/// Settings of a gateway with encrypted connections alone.
fn options() -> pelton_gateway::Options {
    use pelton_gateway::{Options, Stream};
    let mut plan = pelton::Plan::new(pelton::Profile::Dev).with_shards(1).with_producers_max(1);
    plan.class(pelton::Class::strict("bulk").with_capacity(1_024).with_payload_bytes(1 << 22).block());
    let mut options = Options::new(plan);
    options.listen = Vec::new();
    options.listen_tls = vec!["127.0.0.1:0".into()];
    options.streams.push(Stream::new("events", "bulk"));
    options
}

#[cfg(not(feature = "tls"))]
#[test]
fn build_without_tls_rejects_listen_tls() {
    let mut options = options();
    options.tls_certificate = Some("cert.pem".into());
    options.tls_key = Some("key.pem".into());
    let found: Vec<_> = options.findings().iter().map(ToString::to_string).collect();
    let said = "gateway: listen_tls is '127.0.0.1:0', but must be empty, as this program was built \
                without the feature `tls`; a build with it would work";
    assert_eq!(found, [said]);
}

#[cfg(feature = "tls")]
mod with_tls {
    use super::options;
    use pelton::host::Host;
    use pelton::{Context, Event};
    use pelton_gateway::resp::pair;
    use pelton_gateway::{Counts, End, Options, Record, Server, ServerReport};
    use pelton_testkit::Dice;
    use pelton_testkit::certificate::{Certificate, redis_cli, said};
    use pelton_testkit::gateway::by_hand;
    use pelton_testkit::{in_a_process_of_its_own, resident, watchdog, watchdog_for};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
    use std::fs;
    use std::io::{self, Read, Write};
    use std::net::TcpStream;
    use std::path::Path;
    use std::process::Command;
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

    fn options_of(certificate: &Certificate) -> Options {
        let mut options = options();
        options.tls_certificate = Some(certificate.path("cert.pem"));
        options.tls_key = Some(certificate.path("key.pem"));
        options
    }

    /// What a client trusts that knows this certificate.
    fn trust_of(certificate: &Certificate, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.der.clone())).unwrap();
        trust(roots, version)
    }

    fn trust(roots: RootCertStore, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(default_provider().into());
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    fn address(server: &Server) -> String {
        server.addresses()[0].address.clone()
    }

    /// A client that never blocks, so that it can write as long as the server lets it before it reads anything.
    struct Client {
        tcp: TcpStream,
        session: ClientConnection,
        inbox: Vec<u8>,
        read: usize,
        has_ended: bool,
    }

    impl Client {
        fn new(address: &str, config: Arc<ClientConfig>) -> Self {
            let tcp = TcpStream::connect(address).unwrap();
            tcp.set_nodelay(true).unwrap();
            tcp.set_nonblocking(true).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(config, name).unwrap();
            Client { tcp, session, inbox: Vec::new(), read: 0, has_ended: false }
        }

        /// Hands the socket what is encrypted, at most so many bytes at once. Whether anything went.
        fn send(&mut self, piece: usize) -> bool {
            let mut any = false;
            while self.session.wants_write() {
                match self.session.write_tls(&mut Pieces(&mut self.tcp, piece)) {
                    Ok(_) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            any
        }

        /// Takes what has come. Whether anything has.
        fn receive(&mut self) -> bool {
            let mut any = false;
            while !self.has_ended {
                match self.session.read_tls(&mut self.tcp) {
                    Ok(n) => {
                        any = true;
                        self.session.process_new_packets().unwrap();
                        let read = self.session.reader().read_to_end(&mut self.inbox);
                        match read {
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => assert_ne!(n, 0),
                            // The end, and it was announced: another is an error.
                            done => self.has_ended = done.map(|_| true).unwrap(),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            any
        }

        /// Says it all, reading only what stands in the way.
        fn say(&mut self, bytes: &[u8], piece: usize) {
            let mut said = 0;
            while said < bytes.len() || self.session.wants_write() {
                if said < bytes.len() && !self.session.wants_write() {
                    said += self.session.writer().write(&bytes[said..]).unwrap();
                }
                if !self.send(piece) && !self.receive() {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        }

        fn until<T>(&mut self, mut what: impl FnMut(&mut Self) -> Option<T>) -> T {
            loop {
                self.send(usize::MAX);
                if let Some(found) = what(self) {
                    return found;
                }
                if !self.receive() {
                    assert!(!self.has_ended, "{:?}", String::from_utf8_lossy(&self.inbox[self.read..]));
                    thread::sleep(Duration::from_micros(100));
                }
            }
        }

        /// The next so many bytes of what the server says.
        fn bytes(&mut self, n: usize) -> Vec<u8> {
            self.until(|client| {
                let bytes = client.inbox.get(client.read..client.read + n)?.to_vec();
                client.read += n;
                Some(bytes)
            })
        }

        fn line(&mut self) -> String {
            let n =
                self.until(|client| client.inbox[client.read..].windows(2).position(|end| end == b"\r\n"));
            let line = self.bytes(n + 2);
            String::from_utf8(line[..n].to_vec()).unwrap()
        }

        /// A bulk string.
        fn bulk(&mut self) -> Vec<u8> {
            let header = self.line();
            let n = header.strip_prefix('$').unwrap_or_else(|| panic!("{header}")).parse().unwrap();
            let mut bulk = self.bytes(n + 2);
            bulk.truncate(n);
            bulk
        }

        fn id(&mut self) -> (u64, u64) {
            let id = String::from_utf8(self.bulk()).unwrap();
            let (ms, sequence) = id.split_once('-').unwrap();
            (ms.parse().unwrap(), sequence.parse().unwrap())
        }

        fn ping(&mut self) {
            self.say(b"PING\r\n", usize::MAX);
            assert_eq!(self.line(), "+PONG");
        }

        /// Waits until the server has said that this is the end, and closed.
        fn end(mut self) {
            self.until(|client| client.has_ended.then_some(()));
            assert_eq!(self.inbox.len(), self.read, "something was left unread");
        }
    }

    /// Writes a few bytes at once.
    struct Pieces<'a>(&'a mut TcpStream, usize);

    impl Write for Pieces<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(self.1)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn request(words: &[&[u8]]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        request
    }

    fn xadd(n: usize, value: &[u8]) -> Vec<u8> {
        request(&[b"XADD", b"events", b"*", b"n", n.to_string().as_bytes(), b"value", value])
    }

    /// Waits until a server has counted what a test waits for; the watchdog ends a wait in vain.
    fn until_counted(server: &Server, what: impl Fn(&Counts) -> bool) {
        while !what(&server.counts()) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops a server; what it counted agrees with what clients were told, and with the ledger.
    #[track_caller]
    fn stop(mut server: Server, accepted: u64) -> ServerReport {
        let report = server.stop(Duration::from_secs(10)).unwrap();
        assert!(report.engine.ledger.is_closed());
        let ledger = report.engine.ledger.total();
        assert_eq!((ledger.accepted, ledger.handled), (accepted, accepted), "{:?}", report.gateway);
        assert_eq!(report.gateway.streams[0].accepted, accepted);
        assert_eq!(report.gateway.connections(), 0);
        report
    }

    type Seen = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

    /// A server that notes what its handler sees.
    fn noting(options: Options) -> (Server, Seen) {
        let seen = Seen::default();
        let noted = seen.clone();
        let server = Server::start_with(options, move |_| {
            let noted = noted.clone();
            move |event: &mut Event<'_, Record>, _: &mut Context<'_, Record>| {
                let field = |name: &str| pair(event.payload(), name.as_bytes()).unwrap().to_vec();
                let n = String::from_utf8(field("n")).unwrap().parse().unwrap();
                noted.lock().unwrap().push((n, field("value")));
            }
        });
        (server.unwrap(), seen)
    }

    #[test]
    fn requests_in_pieces_are_answered_in_order() {
        let _watchdog = watchdog();
        for version in BOTH {
            let certificate = Certificate::new();
            let (server, seen) = noting(options_of(&certificate));
            let mut client = Client::new(&address(&server), trust_of(&certificate, version));
            let mut dice = Dice::new(7);
            let values: Vec<Vec<u8>> = (0..400)
                .map(|n| {
                    let len = match n % 100 {
                        50 => (1 << 20) - 100,
                        10 | 30 => 100_000 + dice.index(50_000),
                        _ => dice.index(200),
                    };
                    let mut value = vec![0; len];
                    value.chunks_mut(8).for_each(|chunk| {
                        let n = chunk.len();
                        chunk.copy_from_slice(&dice.roll().to_le_bytes()[..n]);
                    });
                    value
                })
                .collect();
            let said: Vec<u8> = values.iter().enumerate().flat_map(|(n, value)| xadd(n, value)).collect();
            let mut left = &said[..];
            while !left.is_empty() {
                // A record for each, and each in segments of its own.
                let record = (1 + dice.index(30_000)).min(left.len());
                let piece = *dice.pick(&[700, 5_000, 100_000]);
                client.say(&left[..record], piece);
                left = &left[record..];
            }
            let ids: Vec<_> = values.iter().map(|_| client.id()).collect();
            assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
            client.say(b"QUIT\r\n", 1);
            assert_eq!(client.line(), "+OK");
            client.end();
            let report = stop(server, 400);
            assert_eq!(report.gateway.ended(End::Client), 1);
            let expected: Vec<_> = values.into_iter().enumerate().collect();
            assert!(*seen.lock().unwrap() == expected, "handled otherwise than said");
        }
    }

    #[test]
    fn request_sent_byte_by_byte_is_answered() {
        let _watchdog = watchdog();
        for version in BOTH {
            let certificate = Certificate::new();
            let (server, seen) = noting(options_of(&certificate));
            let mut client = Client::new(&address(&server), trust_of(&certificate, version));
            // The handshake too.
            client.send(1);
            for byte in xadd(0, b"slow") {
                client.say(&[byte], 1);
            }
            client.id();
            drop(client);
            until_counted(&server, |counts| counts.connections() == 0);
            // It went without a farewell, as many do: it had come to terms.
            assert_eq!(stop(server, 1).gateway.ended(End::Client), 1);
            assert_eq!(*seen.lock().unwrap(), [(0, b"slow".to_vec())]);
        }
    }

    #[test]
    fn close_notify_after_a_request_is_answered_with_one() {
        let _watchdog = watchdog();
        for version in BOTH {
            let certificate = Certificate::new();
            let (server, seen) = noting(options_of(&certificate));
            let mut client = Client::new(&address(&server), trust_of(&certificate, version));
            // Nothing of the handshake is left to be read with it.
            client.ping();
            client.session.writer().write_all(&xadd(0, b"last")).unwrap();
            client.session.send_close_notify();
            let mut both = Vec::new();
            while client.session.wants_write() {
                client.session.write_tls(&mut both).unwrap();
            }
            assert_eq!(client.tcp.write(&both).unwrap(), both.len(), "the socket did not take it at once");
            client.id();
            // It keeps its socket open until the server has said its own.
            client.end();
            assert_eq!(stop(server, 1).gateway.ended(End::Client), 1);
            assert_eq!(*seen.lock().unwrap(), [(0, b"last".to_vec())]);
        }
    }

    #[test]
    fn replies_wait_for_a_client_that_does_not_read() {
        let _watchdog = watchdog();
        for version in BOTH {
            let certificate = Certificate::new();
            let server = Server::start(options_of(&certificate)).unwrap();
            let mut client = Client::new(&address(&server), trust_of(&certificate, version));
            client.ping();
            let texts: Vec<Vec<u8>> = (0..2_000u32)
                .map(|n| n.to_le_bytes().iter().copied().cycle().take(8_000).collect())
                .collect();
            // It reads nothing as long as the server takes what it says, so 16 MB of answers do not fit anywhere.
            for text in &texts {
                client.say(&request(&[b"ECHO", text]), usize::MAX);
            }
            client.say(b"QUIT\r\n", usize::MAX);
            for text in &texts {
                assert_eq!(client.bulk(), *text);
            }
            assert_eq!(client.line(), "+OK");
            client.end();
            assert_eq!(stop(server, 0).gateway.ended(End::Client), 1);
        }
    }

    #[test]
    fn client_that_never_reads_is_closed_as_stalled() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let mut options = options_of(&certificate);
        options.stall = Duration::from_secs(1);
        let (options, time) = by_hand(options);
        let server = Server::start(options).unwrap();
        let mut client = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
        client.ping();
        let echo = request(&[b"ECHO", &[b'x'; 60_000]]);
        let mut passed = Duration::ZERO;
        while server.counts().ended(End::Stalled) == 0 {
            // It breaks off in the middle of a record when the server has closed.
            if !client.session.wants_write() {
                client.session.writer().write_all(&echo).unwrap();
            }
            match client.session.write_tls(&mut client.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    time.advance(Duration::from_millis(10));
                    passed += Duration::from_millis(10);
                    thread::sleep(Duration::from_millis(1));
                }
                _ => {}
            }
        }
        assert!(passed >= Duration::from_secs(1), "it had no time");
        stop(server, 0);
    }

    #[test]
    fn subscriber_receives_what_another_client_publishes() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let server = Server::start(options_of(&certificate)).unwrap();
        let mut listener = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
        listener.say(b"SUBSCRIBE stream:events\r\n", usize::MAX);
        let confirmed = ["*3", "$9", "subscribe", "$13", "stream:events", ":1"];
        confirmed.iter().for_each(|line| assert_eq!(listener.line(), *line));
        let mut client = Client::new(&address(&server), trust_of(&certificate, &version::TLS12));
        for n in 0..100 {
            client.say(&xadd(n, b"value"), usize::MAX);
            client.id();
        }
        for n in 0..100 {
            assert_eq!(listener.line(), "*3");
            assert_eq!(listener.bulk(), b"message");
            assert_eq!(listener.bulk(), b"stream:events");
            let message = String::from_utf8(listener.bulk()).unwrap();
            assert!(message.contains(&format!("\"n\":\"{n}\"")), "{message}");
        }
        let stopping = thread::spawn(move || stop(server, 100));
        // It says that this is the end to both.
        listener.end();
        client.end();
        assert_eq!(stopping.join().unwrap().gateway.ended(End::Stopped), 2);
    }

    /// All that a server says in the clear until it closes.
    fn raw_answer(mut tcp: &TcpStream) -> Vec<u8> {
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = Vec::new();
        match tcp.read_to_end(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => answer,
        }
    }

    #[test]
    fn plain_text_gets_an_alert_and_is_never_run() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let server = Server::start(options_of(&certificate)).unwrap();
        let mut other = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
        other.ping();
        for text in [&b"PING\r\n"[..], &xadd(0, b"unencrypted"), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]
        {
            let mut tcp = TcpStream::connect(address(&server)).unwrap();
            tcp.write_all(text).unwrap();
            let answer = raw_answer(&tcp);
            // An alert, and a fatal one.
            assert_eq!((answer[0], answer[5], answer.len()), (21, 2, 7), "{answer:?}");
        }
        other.ping();
        until_counted(&server, |counts| counts.ended(End::Tls) == 3);
        stop(server, 0);
    }

    /// What a client says first.
    fn hello(certificate: &Certificate) -> Vec<u8> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(trust_of(certificate, &version::TLS13), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        hello
    }

    #[test]
    fn garbage_closes_its_connection_alone() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let mut options = options_of(&certificate);
        // None of them is ended because it took too long.
        options.stall = Duration::from_secs(3_600);
        let server = Server::start(options).unwrap();
        let mut other = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
        other.ping();
        let hello = hello(&certificate);
        let mut dice = Dice::new(3);
        let mut all: Vec<Vec<u8>> = (0..60)
            .map(|_| {
                let len = *dice.pick(&[1, 5, 100, 20_000, 200_000]);
                (0..len).map(|_| dice.roll() as u8).collect()
            })
            .collect();
        // A greeting with one byte that is another, and one that is cut.
        all.extend((0..hello.len()).step_by(7).map(|at| {
            let mut hello = hello.clone();
            hello[at] ^= 1 << dice.index(8);
            hello
        }));
        all.extend((0..hello.len()).step_by(11).map(|len| hello[..len].to_vec()));
        // Records of nothing, for ever; records of the largest length with nothing behind it.
        all.push([20, 3, 3, 0, 0].repeat(50_000));
        all.push([23, 3, 3, 0, 0].repeat(50_000));
        all.push([22, 3, 3, 0xff, 0xff].to_vec());
        let n = all.len() as u64;
        for garbage in all {
            let mut tcp = TcpStream::connect(address(&server)).unwrap();
            // It may be closed before it has said all.
            let _ = tcp.write_all(&garbage);
            let _ = tcp.shutdown(std::net::Shutdown::Write);
            raw_answer(&tcp);
        }
        other.ping();
        until_counted(&server, |counts| counts.connections() == 1);
        assert_eq!(stop(server, 0).gateway.ended(End::Tls), n);
    }

    #[test]
    fn garbage_after_the_handshake_keeps_earlier_requests() {
        let _watchdog = watchdog();
        for version in BOTH {
            let certificate = Certificate::new();
            let server = Server::start(options_of(&certificate)).unwrap();
            let mut client = Client::new(&address(&server), trust_of(&certificate, version));
            client.ping();
            // In one piece, so that the request is decrypted by the read that finds the rest.
            client.session.writer().write_all(&xadd(0, b"before")).unwrap();
            let mut bytes = Vec::new();
            client.session.write_tls(&mut bytes).unwrap();
            bytes.extend([23, 3, 3, 0, 40]);
            bytes.extend([7; 40]);
            client.tcp.set_nonblocking(false).unwrap();
            client.tcp.write_all(&bytes).unwrap();
            until_counted(&server, |counts| counts.connections() == 0);
            assert_eq!(stop(server, 1).gateway.ended(End::Tls), 1);
        }
    }

    #[test]
    fn unfinished_handshake_is_closed() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let mut options = options_of(&certificate);
        options.stall = Duration::from_secs(1);
        let (options, time) = by_hand(options);
        let server = Server::start(options).unwrap();
        let mut other = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
        other.ping();
        let hello = hello(&certificate);
        let silent = TcpStream::connect(address(&server)).unwrap();
        let mut half = TcpStream::connect(address(&server)).unwrap();
        half.write_all(&hello[..hello.len() / 2]).unwrap();
        // All that a server needs to answer, and then nothing more.
        let mut whole = TcpStream::connect(address(&server)).unwrap();
        whole.write_all(&hello).unwrap();
        // Whoever says a byte now and then has no more time.
        let mut slow = TcpStream::connect(address(&server)).unwrap();
        until_counted(&server, |counts| counts.connected == 5);
        let slowly = thread::spawn(move || {
            // It is closed long before its greeting is said: at the latest with the watchdog.
            for byte in hello.iter().cycle().take(3_000) {
                if slow.write_all(&[*byte]).is_err() {
                    return;
                }
                time.advance(Duration::from_millis(20));
                thread::sleep(Duration::from_millis(1));
            }
            panic!("it was let go on");
        });
        assert_eq!(raw_answer(&silent).len(), 7, "a farewell");
        raw_answer(&half);
        raw_answer(&whole);
        slowly.join().unwrap();
        until_counted(&server, |counts| counts.ended(End::Tls) == 4);
        // Silence after the handshake is nobody's business.
        other.ping();
        assert_eq!(stop(server, 0).gateway.ended(End::Tls), 4);
    }

    #[test]
    fn endless_handshake_is_closed() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let server =
            Server::start(Options { stall: Duration::from_secs(600), ..options_of(&certificate) }).unwrap();
        let mut tcp = TcpStream::connect(address(&server)).unwrap();
        tcp.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        // A greeting of 64 KiB, as far as it says, in records of 8 KiB.
        let mut record = vec![22, 3, 1, 0x20, 0];
        record.extend([&[1, 0, 0xff, 0xff, 3, 3][..], &[0; 8_186]].concat());
        let more = [&[22, 3, 1, 0x20, 0][..], &[0; 8_192]].concat();
        tcp.write_all(&record).unwrap();
        tcp.write_all(&more).unwrap();
        // It may be closed while this is written.
        let _ = tcp.write_all(&more);
        raw_answer(&tcp);
        until_counted(&server, |counts| counts.ended(End::Tls) == 1);
        stop(server, 0);
    }

    #[test]
    fn newcomer_displaces_an_unfinished_handshake() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let server = Server::start(Options { connections_max: 4, ..options_of(&certificate) }).unwrap();
        let hello = hello(&certificate);
        // One says nothing, the others half or all of a greeting.
        let unfinished: Vec<_> = [0, hello.len() / 2, hello.len(), hello.len()]
            .into_iter()
            .map(|len| {
                let mut tcp = TcpStream::connect(address(&server)).unwrap();
                tcp.write_all(&hello[..len]).unwrap();
                tcp
            })
            .collect();
        until_counted(&server, |counts| (counts.connections(), counts.unauthenticated) == (4, 4));
        let mut inside: Vec<_> = (0..4)
            .map(|_| {
                let mut client = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
                client.ping();
                client
            })
            .collect();
        until_counted(&server, |counts| (counts.ended(End::Displaced), counts.unauthenticated) == (4, 0));
        inside.iter_mut().for_each(Client::ping);
        drop(unfinished);
        stop(server, 0);
    }

    #[test]
    fn unfinished_handshakes_take_little_memory() {
        const ALONE: &str = "PELTON_TEST_HANDSHAKES_ALONE";
        const EACH_BYTES: usize = 64 << 10;
        // What other tests take would be counted here.
        if std::env::var_os(ALONE).is_none() {
            print!("{}", in_a_process_of_its_own(ALONE, &[]));
            return;
        }
        let _watchdog = watchdog_for(Duration::from_secs(150));
        let strangers = std::env::var("PELTON_SOAK_STRANGERS").map_or(300, |n| n.parse().unwrap());
        let certificate = Certificate::new();
        let server =
            Server::start(Options { stall: Duration::from_secs(600), ..options_of(&certificate) }).unwrap();
        let hello = hello(&certificate);
        let begin = |at: usize| {
            let mut tcp = TcpStream::connect(address(&server)).unwrap();
            let bytes = match at % 3 {
                0 => hello[..hello.len() - 1].to_vec(),
                1 => hello.clone(),
                // As much of a greeting as is kept.
                _ => [&[22, 3, 1, 0x3c, 0, 1, 0, 0xff, 0xff, 3, 3][..], &[0; 15_300]].concat(),
            };
            tcp.write_all(&bytes).unwrap();
            tcp
        };
        let warm: Vec<_> = (0..9).map(begin).collect();
        until_counted(&server, |counts| counts.connected == 9);
        let before = resident();
        let all: Vec<_> = (0..strangers).map(begin).collect();
        until_counted(&server, |counts| counts.connected == 9 + strangers as u64);
        // Each has been read when one that comes later is answered.
        Client::new(&address(&server), trust_of(&certificate, &version::TLS13)).ping();
        let counts = server.counts();
        let each = resident().saturating_sub(before) / strangers;
        println!("{strangers} handshakes, {} still there: {each} bytes each", counts.unauthenticated);
        assert!(
            each <= EACH_BYTES && counts.unauthenticated >= strangers as u64,
            "{each} bytes each, {counts:?}"
        );
        drop((warm, all));
        stop(server, 0);
    }

    #[test]
    fn client_that_rejects_the_certificate_is_counted() {
        let _watchdog = watchdog();
        for version in BOTH {
            let certificate = Certificate::new();
            let server = Server::start(options_of(&certificate)).unwrap();
            let config = trust_of(&Certificate::new(), version);
            let mut tcp = TcpStream::connect(address(&server)).unwrap();
            let mut session =
                ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
            let error = session.complete_io(&mut tcp).unwrap_err();
            assert!(error.to_string().contains("certificate"), "{error}");
            // It says why.
            let _ = session.write_tls(&mut tcp);
            until_counted(&server, |counts| counts.ended(End::Tls) == 1);
            stop(server, 0);
        }
    }

    #[test]
    fn connections_over_the_limit_are_closed_and_counted() {
        let _watchdog = watchdog();
        let certificate = Certificate::new();
        let mut options = options_of(&certificate);
        options.connections_max = 1;
        let server = Server::start(options).unwrap();
        let mut first = Client::new(&address(&server), trust_of(&certificate, &version::TLS13));
        first.ping();
        let tcp = TcpStream::connect(address(&server)).unwrap();
        // Nothing in the clear: what it would be told needs a handshake.
        assert_eq!(raw_answer(&tcp), b"");
        first.ping();
        assert_eq!(stop(server, 0).gateway.ended(End::Full), 1);
    }

    /// What a server says of a certificate and a key when it is to start with them.
    #[track_caller]
    fn refused(certificate: &Path, key: &Path) -> String {
        let mut options = options();
        options.tls_certificate = Some(certificate.into());
        options.tls_key = Some(key.into());
        let said: Vec<_> = options.findings_here(&Host::unknown()).iter().map(ToString::to_string).collect();
        let error = Server::start(options).expect_err("it cannot start").to_string();
        assert_eq!(said.join("\n"), error, "a check says the same");
        error
    }

    #[test]
    fn invalid_tls_files_are_reported() {
        let mine = Certificate::new();
        let (certificate, key) = (mine.path("cert.pem"), mine.path("key.pem"));
        let text = fs::read_to_string(&certificate).unwrap();
        let secret = fs::read_to_string(&key).unwrap();
        let file = |name: &str, text: &str| {
            let path = mine.path(name);
            fs::write(&path, text).unwrap();
            path
        };
        let empty = file("empty.pem", "");
        let cut = file("cut.pem", &text[..text.len() / 2]);
        let cut_key = file("cut_key.pem", &secret[..secret.len() / 2]);
        let header = file("header.pem", "-----BEGIN CERTIFICATE\n");
        let nonsense = file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let no_key = file("no_key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let locked = file(
            "locked.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let large = file("large.pem", &"\n".repeat((1 << 20) + 1));
        let other = Certificate::new().path("key.pem");
        let gone = other.clone();
        let others = file("others.pem", &{
            let other = Certificate::new();
            fs::read_to_string(other.path("key.pem")).unwrap()
        });
        for (of, path, said) in [
            (
                "tls_certificate",
                &gone,
                "a file that can be read, and here: No such file or directory (os error 2)",
            ),
            (
                "tls_certificate",
                &mine.path("."),
                "a file that can be read, and here: Is a directory (os error 21)",
            ),
            ("tls_certificate", &empty, "a PEM file with a certificate in it, and there is none"),
            ("tls_certificate", &key, "a PEM file with a certificate in it, and there is none"),
            ("tls_certificate", &cut, "a PEM file that is whole, and here: section 'CERTIFICATE' has no end"),
            (
                "tls_certificate",
                &header,
                "a PEM file that is whole, and here: a line is '-----BEGIN CERTIFICATE'",
            ),
            ("tls_certificate", &nonsense, "a certificate that can be read, and here: BadEncoding"),
            ("tls_certificate", &large, "a PEM file of at most 1048576 bytes"),
            ("tls_key", &gone, "a file that can be read, and here: No such file or directory (os error 2)"),
            ("tls_key", &certificate, "a PEM file with a private key in it, and there is none"),
            ("tls_key", &locked, "a PEM file with an unencrypted private key in it, and there is none"),
            ("tls_key", &cut_key, "a PEM file that is whole, and here: section 'PRIVATE KEY' has no end"),
            (
                "tls_key",
                &no_key,
                "a key of RSA, ECDSA or Ed25519, and here: unexpected error: failed to parse private key as RSA, ECDSA, or \
                 EdDSA",
            ),
            (
                "tls_key",
                &others,
                &format!("the key of the certificate in '{}', and it is another's", certificate.display()),
            ),
        ] {
            let found = match of {
                "tls_key" => refused(&certificate, path),
                _ => refused(path, &key),
            };
            let whole = format!(
                "gateway: {of} is '{}', but must be {said}; the path of one would work",
                path.display()
            );
            assert_eq!(found, whole);
        }
    }

    #[test]
    fn two_missing_tls_files_are_reported_together() {
        let found = refused(Path::new("/not/there/cert.pem"), Path::new("/not/there/key.pem"));
        assert_eq!(found.lines().count(), 2, "{found}");
    }

    #[test]
    fn redis_cli_works_over_tls() {
        let _watchdog = watchdog_for(Duration::from_secs(120));
        let certificate = Certificate::new();
        let server = Server::start(options_of(&certificate)).unwrap();
        let cli = || redis_cli(&address(&server), &certificate);
        let Some(mut ping) = cli() else { return };
        assert_eq!(said(&mut ping, &["PING"]), "PONG");
        let mut ids = Vec::new();
        for n in 0..20 {
            let id = said(&mut cli().unwrap(), &["XADD", "events", "*", "n", &n.to_string()]);
            let (ms, sequence) = id.split_once('-').unwrap();
            ids.push((ms.parse::<u64>().unwrap(), sequence.parse::<u64>().unwrap()));
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        // It asks the same of a certificate as others do.
        let mut stranger = Command::new("redis-cli");
        let (host, port) =
            address(&server).rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        stranger.args(["--tls", "-h", &host, "-p", &port, "PING"]);
        assert!(!stranger.output().unwrap().status.success());
        until_counted(&server, |counts| counts.connections() == 0);
        let report = stop(server, 20);
        assert_eq!(report.gateway.ended(End::Client), 21);
        // It tries more than once.
        assert!(report.gateway.ended(End::Tls) >= 1);
    }
}
