//! Digests against those of Linux 6.18, captured on a loopback device, and who has which key.

use millrace_base::Endpoint;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// Segments of a connection of 127.0.0.1 to itself.
const OF_V4: [&str; 4] = [
    "ce9c06fe9a00770900000000d002ffd7fe3c000001011312a980aee6fa9c00a5a2e3ff731b3b40860204ffd7010104\
     020103030a",
    "06fece9c939e49d09a00770ad012ffd7fe3c000001011312a341d36c398e2ea6ee40db8d1c869a070204ffd7010104\
     020103030a",
    "ce9c06fe9a00770a939e49d1a0180040fe4100000101131298dc7db6f30b786a75c74696c07d59f561207369676e65\
     64206772656574696e67",
    "06fece9c939e49d19a00771ca0110040fe3000000101131257fef11d38a43c9b42ff87f48d72d7b5",
];
/// And one of ::1.
const OF_V6: [&str; 3] = [
    "983806fef8b6759f00000000d002ffc4003c000001011312b9ccd8061aa77d8009111fdf4cbe01110204ffc4010104\
     020103030a",
    "983806fef8b675a026f708a6a01800400041000001011312bc68847a51c605a0e7fdaf2d39047bcb61207369676e65\
     64206772656574696e67",
    "06fe983826f708a6f8b675b1a01000400030000001011312f3f72582f5b40b4d5b1ad0d8729f69fe",
];

// RFC 2385 section 2.0; the checksums in the captures are those of an offloading device, which do
// not matter.
// behaviour: SND-35, A19-8
#[test]
fn digests_are_those_of_linux() {
    let v4 = Address::v4([127, 0, 0, 1]);
    let v6 = Address::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let short = SigningKey::new(b"secret of two").expect("short");
    let long: [u8; 80] = core::array::from_fn(|at| at as u8 + 1);
    let long = SigningKey::new(&long).expect("80 bytes");
    let captured = OF_V4.map(|text| (v4, short, text));
    let captured = captured
        .into_iter()
        .chain(OF_V6.map(|text| (v6, long, text)));
    for (address, key, text) in captured {
        let segment = bytes(text);
        let digest = key.sign(address, address, &segment).expect("a header");
        assert_eq!(digest, segment[24..40], "{text}");
        let mut changed = segment.clone();
        *changed.last_mut().expect("bytes") ^= 1;
        let differs = key.sign(address, address, &changed).expect("a header") != digest;
        assert_eq!(differs, segment.len() > usize::from(segment[12] >> 4) * 4);
    }
    assert_eq!(short.sign(v4, v4, &[0; 19]), None);
}

#[test]
fn a_key_has_1_to_80_bytes_and_is_not_shown() {
    assert_eq!(SigningKey::new(&[]), None);
    assert_eq!(SigningKey::new(&[1; 81]), None);
    let key = SigningKey::new(&[0x61; 80]).expect("80 bytes");
    assert_eq!(key.as_slice(), [0x61; 80]);
    assert_eq!(format!("{key:?}"), "SigningKey(80 bytes)");
}

// What has no end must not fill the table of those that rest.
#[test]
fn the_oldest_key_of_a_rest_gives_way_to_one_too_many() {
    let mut keys = Keys::new();
    let key = SigningKey::new(b"k");
    let tuple = |port: usize| FlowTuple {
        local: Endpoint::new(Address::v4([10, 0, 0, 1]), port as u16),
        remote: Endpoint::new(Address::v4([10, 0, 0, 2]), 179),
    };
    for port in 0..=TIME_WAIT_KEYS_MAX {
        keys.rest(&tuple(port), key.as_ref());
    }
    assert_eq!(keys.resting.len(), TIME_WAIT_KEYS_MAX);
    assert!(keys.of_resting(&tuple(0)).is_none() && keys.of_resting(&tuple(1)).is_some());
    keys.rest(&tuple(1), None);
    assert!(keys.of_resting(&tuple(1)).is_none());
    keys.forget(&tuple(2));
    assert!(keys.of_resting(&tuple(2)).is_none());
}
