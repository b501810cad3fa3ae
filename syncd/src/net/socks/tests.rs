//! A scripted proxy: what it is told, byte by byte, and what is made of what it says.

use super::*;
use tokio::io::duplex;

const ADDRESS: Host<'_> = Host::Ip(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));
const DONE: &[u8] = &[5, 0, 0, 1, 10, 0, 0, 1, 0x12, 0x34];

/// The proxy says all of `says` at once and then, unless it stays, hangs up: what it is told, and what came of it, with what
/// was left for whoever uses the connection.
async fn told(says: &[u8], host: &Host<'_>, stays: bool) -> (Vec<u8>, Result<(), Trouble>, Vec<u8>) {
    let (mut ours, mut proxy) = duplex(4096);
    proxy.write_all(says).await.expect("there is room");
    if !stays {
        proxy.shutdown().await.expect("it is open");
    }
    let login = Login::new("me", "secret").expect("short parts");
    let result = connect(&mut ours, host, 0x703a, &login).await;
    ours.shutdown().await.expect("it is open");
    let (mut told, mut left) = (Vec::new(), Vec::new());
    proxy.read_to_end(&mut told).await.expect("it was closed");
    drop(proxy);
    ours.read_to_end(&mut left).await.expect("it was closed");
    (told, result, left)
}

const HELLO: &[u8] = &[5, 2, 2, 0];
const LOGIN: &[u8] = b"\x01\x02me\x06secret";
const TO_V4: &[u8] = &[5, 1, 0, 1, 192, 0, 2, 7, 0x70, 0x3a];

#[tokio::test]
async fn what_a_proxy_is_told() {
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    let mapped: IpAddr = "::ffff:192.0.2.7".parse().expect("an address");
    let to_v6 = [&[5, 1, 0, 4, 0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1, 0x70, 0x3a]].concat();
    let to_name = [&[5, 1, 0, 3, 8][..], b"abc.test", &[0x70, 0x3a]].concat();
    let rows: [(&str, Host<'_>, &[u8], Vec<u8>); 5] = [
        ("without a login", ADDRESS, &[5, 0], [HELLO, TO_V4].concat()),
        ("with a login", ADDRESS, &[5, 2, 1, 0], [HELLO, LOGIN, TO_V4].concat()),
        ("IPv6", Host::Ip(v6), &[5, 0], [HELLO, &to_v6].concat()),
        ("IPv4 in IPv6", Host::Ip(mapped), &[5, 0], [HELLO, TO_V4].concat()),
        ("a name", Host::Name("abc.test"), &[5, 0], [HELLO, &to_name].concat()),
    ];
    for (name, host, says, expected) in rows {
        let (told, result, left) = told(&[says, DONE, b"hello"].concat(), &host, true).await;
        assert_eq!((told, result, left), (expected, Ok(()), b"hello".to_vec()), "{name}");
    }
}

#[tokio::test]
async fn a_proxy_may_name_its_own_address_in_any_form() {
    for address in [&[1, 1, 2, 3, 4][..], &[[4].as_slice(), &[7; 16]].concat(), b"\x03\x04name", b"\x03\x00"] {
        let says = [&[5, 0, 5, 0, 0][..], address, &[0, 80], b"hello"].concat();
        let (_, result, left) = told(&says, &ADDRESS, true).await;
        assert_eq!((result, left), (Ok(()), b"hello".to_vec()), "{address:?}");
    }
    let longest = [&[5, 0, 5, 0, 0, 3, 255][..], &[7; 255], &[0, 80]].concat();
    assert_eq!(told(&longest, &ADDRESS, true).await.1, Ok(()));
}

#[tokio::test]
async fn what_a_proxy_refuses_is_said_in_words() {
    let refused = |code| [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    let rows: [(&str, Vec<u8>, Trouble, &str); 13] = [
        ("nothing", vec![], Trouble::Broken, "broke the connection off"),
        ("half a choice", vec![5], Trouble::Broken, "broke the connection off"),
        ("a web server", b"HTTP/1.1 400 Bad Request\r\n".to_vec(), Trouble::Foreign, "does not speak SOCKS5"),
        ("SOCKS4", vec![0, 0x5b, 0, 0, 0, 0, 0, 0], Trouble::Foreign, "does not speak SOCKS5"),
        ("a choice that was not offered", vec![5, 1], Trouble::Foreign, "does not speak SOCKS5"),
        ("no choice", vec![5, 0xff], Trouble::Methods, "kind of login"),
        ("a wrong login", vec![5, 2, 1, 1], Trouble::Login, "user name and password"),
        ("nothing behind the login", vec![5, 2, 1, 0], Trouble::Broken, "broke the connection off"),
        ("another version behind the login", vec![5, 0, 4, 0, 0, 1], Trouble::Foreign, "does not speak SOCKS5"),
        ("an address of no kind", vec![5, 0, 5, 0, 0, 9, 1, 2], Trouble::Foreign, "does not speak SOCKS5"),
        ("less than its address", vec![5, 0, 5, 0, 0, 4, 1, 2], Trouble::Broken, "broke the connection off"),
        ("an unreachable host", refused(4).to_vec(), Trouble::Refused(4), "cannot reach it: host unreachable"),
        ("a reason of its own", refused(0xf0).to_vec(), Trouble::Refused(0xf0), "reason 240"),
    ];
    for (name, says, expected, words) in rows {
        let (_, result, _) = told(&says, &ADDRESS, false).await;
        let trouble = result.expect_err(name);
        assert!(trouble.to_string().contains(words), "{name}: {trouble}");
        assert_eq!(trouble, expected, "{name}");
    }
    let words = |code| Trouble::Refused(code).to_string();
    assert!((1..=8).all(|code| !words(code).contains("reason")), "the codes of RFC 1928 have words");
}

#[test]
fn a_login_has_two_parts() {
    let long = "x".repeat(PART_LEN_MAX);
    assert!(Login::new(long.as_str(), long.as_str()).is_some());
    for (user, password) in [("", "p"), ("u", ""), ("u", &format!("{long}x"))] {
        assert!(Login::new(user, password).is_none(), "{user} {password}");
    }
}
