//! Somebody in the middle of a pairing. Without the code a stranger can break it and nothing else; with the code the
//! stranger can talk to both, and then the two people see different numbers.

use protocol::wire::frame::{Opener, Sealer};
use protocol::wire::handshake::{
    Established, HelloHead, Initiator, MESSAGE_1_LEN, MESSAGE_2_LEN, MESSAGE_3_LEN, Params, Responder,
};
use protocol::wire::identity::Identity;
use protocol::wire::invite::InviteCode;
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::knock::{Context, KNOCK_LEN, Knock};
use protocol::wire::message::{Hello, Joiner, Message};
use protocol::wire::pair::{Direction, PairSecret};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tests::harness::{Device, PATIENCE, Talk, World, noise};

/// What goes over the wire in a pairing, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Knock,
    Message1,
    Message2,
    Message3,
    /// What the showing side says once it has keys, HELLO first.
    FirstBack,
    /// What the joining side says then.
    FirstThere,
}

const PARTS: [Part; 6] =
    [Part::Knock, Part::Message1, Part::Message2, Part::Message3, Part::FirstBack, Part::FirstThere];

impl Part {
    const fn comes_from_joiner(self) -> bool {
        matches!(self, Self::Knock | Self::Message1 | Self::Message3 | Self::FirstThere)
    }

    /// Bytes; `None` for as many as come.
    const fn len(self) -> Option<usize> {
        match self {
            Self::Knock => Some(KNOCK_LEN),
            Self::Message1 => Some(MESSAGE_1_LEN),
            Self::Message2 => Some(MESSAGE_2_LEN),
            Self::Message3 => Some(MESSAGE_3_LEN),
            Self::FirstBack | Self::FirstThere => None,
        }
    }
}

/// What the middle does to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tampering {
    /// One bit is another.
    Flip,
    /// Half of it arrives, then the end.
    Cut,
    /// It arrives twice.
    Repeat,
    /// In its place comes that of an earlier run, which is broken off there.
    Swap,
}

/// Passes on what two ends of a pairing say, and tampers with one part of it.
struct Middle {
    address: String,
    /// Lengths of what was passed on, there and back.
    passed: Arc<Mutex<[usize; 2]>>,
}

/// What the two ways of a connection share.
#[derive(Clone)]
struct Plan {
    tampers: Option<(Part, Tampering)>,
    /// The part as an earlier run had it.
    earlier: Arc<Mutex<Option<Vec<u8>>>>,
    passed: Arc<Mutex<[usize; 2]>>,
}

impl Middle {
    fn before(device: &Device, tampers: Option<(Part, Tampering)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let passed = Arc::new(Mutex::new([0; 2]));
        let plan = Plan { tampers, earlier: Arc::default(), passed: Arc::clone(&passed) };
        let target = device.address();
        std::thread::spawn(move || {
            for joiner in listener.incoming().map_while(Result::ok) {
                let Ok(shower) = TcpStream::connect(&target) else { continue };
                let ends = [joiner.try_clone(), shower.try_clone()].map(|end| end.expect("a handle"));
                let [joiner_again, shower_again] = ends;
                let plans = [plan.clone(), plan.clone()];
                let [there, back] = plans;
                std::thread::spawn(move || there.pass(joiner, shower, true));
                std::thread::spawn(move || back.pass(shower_again, joiner_again, false));
            }
        });
        Self { address, passed }
    }

    fn passed(&self) -> [usize; 2] {
        *self.passed.lock().expect("no thread panics holding it")
    }
}

impl Plan {
    /// Everything that goes one way, part by part; then both ends are hung up on.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, there: bool) {
        // The other end may be gone at any time.
        let _ = self.parts(&mut from, &mut to, there);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn parts(&self, from: &mut TcpStream, to: &mut TcpStream, there: bool) -> std::io::Result<()> {
        for part in PARTS.into_iter().filter(|part| part.comes_from_joiner() == there) {
            let bytes = match part.len() {
                Some(len) => {
                    let mut bytes = vec![0; len];
                    from.read_exact(&mut bytes)?;
                    bytes
                }
                None => some(from)?,
            };
            let tampering = self.tampers.filter(|(tampered, _)| *tampered == part).map(|(_, tampering)| tampering);
            let Some(bytes) = self.tampered(bytes, tampering) else { return Ok(()) };
            self.passed.lock().expect("no thread panics holding it")[usize::from(!there)] += bytes.len();
            to.write_all(&bytes)?;
            if tampering == Some(Tampering::Cut) {
                return Ok(());
            }
        }
        loop {
            let bytes = some(from)?;
            to.write_all(&bytes)?;
        }
    }

    /// What arrives in place of a part; `None` when nothing more does.
    fn tampered(&self, mut bytes: Vec<u8>, tampering: Option<Tampering>) -> Option<Vec<u8>> {
        let middle = bytes.len() / 2;
        match tampering {
            None => {}
            Some(Tampering::Flip) => bytes[middle] ^= 1,
            Some(Tampering::Cut) => bytes.truncate(middle),
            Some(Tampering::Repeat) => bytes = [&bytes[..], &bytes].concat(),
            Some(Tampering::Swap) => {
                let mut earlier = self.earlier.lock().expect("no thread panics holding it");
                return if earlier.is_some() {
                    earlier.clone()
                } else {
                    *earlier = Some(bytes);
                    None
                };
            }
        }
        Some(bytes)
    }
}

/// The next bytes, or the end as an error.
fn some(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let len = from.read(&mut bytes)?;
    bytes.truncate(len);
    if len == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// Starts to show a code.
fn show(device: &Device, timeout_s: &str) -> (String, Talk) {
    let mut showing = device.spawn(&["--json", "pair", "--yes", "--timeout", timeout_s]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    (code, showing)
}

/// The check number that a person is shown, if there is one before the command ends.
fn number(talk: &mut Talk) -> Option<String> {
    std::iter::from_fn(|| talk.json()).find_map(|line| line["check"].as_str().map(str::to_owned))
}

fn knows_nobody(device: &Device) {
    let list = device.json(&["device", "list"]);
    assert_eq!(list["devices"].as_array().map(Vec::len), Some(0), "{list}");
}

/// The joining side got nothing of the realm, and neither side a device.
fn nothing_came_of_it(shows: &Device, joins: &Device) {
    [shows, joins].into_iter().for_each(knows_nobody);
    assert!(!joins.home().join("keys/realm").exists(), "the joining device has got a realm");
}

#[test]
fn whoever_only_passes_on_is_not_noticed_and_both_see_the_same_number() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let middle = Middle::before(&a, None);
    let (code, mut showing) = show(&a, "60");
    let mut typing = b.spawn(&["--json", "pair", &code, "--yes", "--address", &middle.address]);
    let numbers = [&mut showing, &mut typing].map(number);
    assert!(numbers[0].is_some() && numbers[0] == numbers[1], "{numbers:?}");
    assert_eq!((showing.finish().0, typing.finish().0), (0, 0));
    let [there, back] = middle.passed();
    assert!(there > KNOCK_LEN + MESSAGE_1_LEN + MESSAGE_3_LEN && back > MESSAGE_2_LEN, "{there} {back}");
}

/// Whether both sides say in words why it failed, and neither has anything of the other.
fn breaks(part: Part, tampering: Tampering) {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let middle = Middle::before(&a, Some((part, tampering)));
    // The joining side looks long enough for three runs; the code lives a little longer.
    let (code, showing) = show(&a, "12");
    let typing = b.spawn(&["--json", "pair", &code, "--yes", "--address", &middle.address, "--timeout", "10"]);
    for (side, talk) in [("typing", typing), ("showing", showing)] {
        let (exit, said) = talk.finish();
        assert_eq!(exit, 1, "{part:?} {tampering:?} {side}: {said}");
        let clear = [
            "broke off",
            "expired",
            "did not",
            "does not answer",
            "no device answered",
            "closed",
            "verif",
            "gave up",
            "went silent",
        ];
        let is_clear = said.starts_with("error: ") && clear.iter().any(|words| said.contains(words));
        assert!(is_clear, "{part:?} {tampering:?} {side}: {said}");
    }
    assert!(middle.passed()[0] > 0 || tampering == Tampering::Swap, "{part:?} {tampering:?}: the middle is in between");
    nothing_came_of_it(&a, &b);
}

/// All parts at once: most of the time is waiting for answers that do not come.
fn breaks_everywhere(tampering: Tampering) {
    std::thread::scope(|scope| {
        let trials = PARTS.map(|part| scope.spawn(move || breaks(part, tampering)));
        for trial in trials {
            assert!(trial.join().is_ok(), "{tampering:?}");
        }
    });
}

#[test]
fn a_bit_that_is_flipped_in_any_message_ends_the_pairing() {
    breaks_everywhere(Tampering::Flip);
}

#[test]
fn any_message_cut_short_ends_the_pairing() {
    breaks_everywhere(Tampering::Cut);
}

#[test]
fn any_message_sent_twice_ends_the_pairing() {
    breaks_everywhere(Tampering::Repeat);
}

#[test]
fn any_message_of_an_earlier_run_ends_the_pairing() {
    breaks_everywhere(Tampering::Swap);
}

/// An end of a pairing that a stranger holds who has the code.
struct Line {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    joiner: Joiner,
    check: String,
    /// Who the other end says it is.
    name: String,
}

/// What the stranger is to both.
struct Stranger {
    identity: Identity,
    secret: PairSecret,
}

fn fresh<const N: usize>() -> [u8; N] {
    static COUNT: Mutex<u64> = Mutex::new(0);
    let mut count = COUNT.lock().expect("no thread panics holding it");
    *count += 1;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
    let seed = u64::try_from(now % u128::from(u64::MAX)).expect("below").wrapping_add(*count << 48);
    noise(seed, N).try_into().expect("as many as were asked for")
}

fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs())
}

impl Stranger {
    fn with(code: &str) -> Self {
        let code: InviteCode = code.parse().expect("a code");
        Self { identity: Identity::from_seed(&Secret32::new(fresh())), secret: code.pair_secret() }
    }

    fn params<'a>(&'a self, knock: &'a Knock, psk: &'a Secret32) -> Params<'a> {
        Params {
            context: Context::Pairing,
            knock,
            psk,
            own: &self.identity,
            expected: None,
            hello: HelloHead::default(),
            channel_binding: [0; 32],
            versions: (1, 1),
        }
    }

    /// Joins the device that shows the code.
    fn dials(&self, address: &str) -> Line {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let knock = Knock::make(&self.secret.knock_key(Direction::High), Context::Pairing, fresh(), now());
        let psk = self.secret.psk();
        let (initiator, message_1) = Initiator::start(&self.params(&knock, &psk), &fresh()).expect("it starts");
        stream.write_all(&[&knock.0[..], &message_1].concat()).expect("it reads");
        let (message_3, established) = initiator.read_message_2(&exactly(&mut stream)).expect("the code is right");
        stream.write_all(&message_3).expect("it reads");
        self.greet(stream, established)
    }

    /// Shows the same code to the device whose owner types it.
    fn answers(&self, listener: &TcpListener) -> Line {
        let (mut stream, _) = listener.accept().expect("it dials");
        let knock = Knock(exactly(&mut stream));
        let psk = self.secret.psk();
        let (responder, message_2) =
            Responder::start(&self.params(&knock, &psk), &exactly(&mut stream), &fresh()).expect("the code is right");
        stream.write_all(&message_2).expect("it reads");
        let established = responder.read_message_3(&exactly(&mut stream)).expect("the code is right");
        self.greet(stream, established)
    }

    fn greet(&self, stream: TcpStream, established: Established) -> Line {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let check = established.check_number.to_string().replace(' ', "");
        let (sealer, opener) = established.transport.split();
        let mut line = Line { stream, sealer, opener, joiner: Joiner::default(), check, name: String::new() };
        line.say(&Message::Hello(Hello {
            instance: [0; 16],
            boot: [0; 8],
            ed: self.identity.public().ed,
            name: "a familiar name".to_owned(),
            software: "syncd".to_owned(),
            capabilities: 0,
            clock: now(),
            observed: None,
        }));
        let Message::Hello(hello) = line.hears().expect("it greets") else { panic!("HELLO comes first") };
        line.name = hello.name;
        line
    }
}

impl Line {
    fn say(&mut self, message: &Message) {
        let (kind, body) = message.encode();
        let mut out = Vec::new();
        self.sealer.seal_message(kind, 0, &body, &mut out).expect("a short message");
        self.stream.write_all(&out).expect("it reads");
    }

    /// The next message; `None` when the other end has hung up.
    fn hears(&mut self) -> Option<Message> {
        loop {
            while let Some(frame) = self.opener.next().expect("an honest device") {
                if let Some((kind, _, body)) = self.joiner.push(&frame).expect("an honest device") {
                    return Some(Message::decode(kind, body).expect("an honest device"));
                }
            }
            let len = self.stream.read(self.opener.space()).ok().filter(|len| *len > 0)?;
            self.opener.filled(len);
        }
    }

    /// All that comes before the other end's person has agreed, and that.
    fn hears_until_accepted(&mut self) {
        loop {
            match self.hears().expect("it is still there") {
                Message::PairAccept => return,
                Message::Ping => {}
                other => panic!("said before this end has agreed: {other:?}"),
            }
        }
    }
}

fn exactly<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.read_exact(&mut bytes).expect("it sends");
    bytes
}

#[test]
fn whoever_has_the_code_and_sits_in_between_makes_the_two_numbers_differ() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let (code, mut showing) = show(&a, "60");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a bound port").to_string();
    let stranger = Stranger::with(&code);
    let mut typing = b.spawn(&["--json", "pair", &code, "--yes", "--address", &address]);
    let mut to_b = stranger.answers(&listener);
    let mut to_a = stranger.dials(&a.address());
    assert_eq!((to_a.name.as_str(), to_b.name.as_str()), ("a", "b"), "the stranger has both");
    let numbers = [&mut showing, &mut typing].map(|talk| number(talk).expect("a number is shown"));
    // Each sees the number of its own half, which are equal by chance once in a million runs.
    assert_eq!(numbers, [to_a.check.clone(), to_b.check.clone()]);
    assert_ne!(numbers[0], numbers[1]);
    // Both said yes beforehand. Nothing secret comes before the stranger says so, too, on either half.
    to_a.hears_until_accepted();
    to_b.hears_until_accepted();
    for line in [&mut to_a, &mut to_b] {
        line.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        assert!(line.hears().is_none_or(|message| matches!(message, Message::Ping)), "a device says more than yes");
    }
    drop((to_a, to_b));
    for talk in [showing, typing] {
        let (exit, said) = talk.finish();
        assert!(exit == 1 && said.starts_with("error: "), "{exit} {said}");
    }
    nothing_came_of_it(&a, &b);
}
