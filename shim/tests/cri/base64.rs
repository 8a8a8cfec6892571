//! JSON has bytes in base64.

pub fn decode(text: &str) -> String {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(value).collect();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn as_others_write_it() {
    for (text, expected) in [
        ("", ""),
        ("YQ==", "a"),
        ("YWI=", "ab"),
        ("YWJj", "abc"),
        ("YWJjZAo=", "abcd\n"),
        ("Pz8/", "???"),
    ] {
        assert_eq!(decode(text), expected);
    }
}
