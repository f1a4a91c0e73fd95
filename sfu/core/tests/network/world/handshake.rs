//! What a client says in a DTLS handshake, put into datagrams as other clients do.

/// Returns a datagram as it is sent for the `copy`th time (RFC 6347 §4.2.4), under record numbers of its own. If it is
/// `long`, a ClientHello is cut in two (§4.2.3), as by clients whose keys are large.
pub(super) fn datagrams(datagram: &[u8], long: bool, copy: u64) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut rest = datagram;
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
        let (content, behind) =
            behind.split_at(usize::from(u16::from_be_bytes([header[11], header[12]])));
        rest = behind;
        if long && header[0] == HANDSHAKE && content[0] == CLIENT_HELLO {
            let (message, body) = content.split_at(MESSAGE_HEADER);
            let half = body.len() / 2;
            let (first, second) = body.split_at(half);
            return vec![
                record(header, 2 * copy, &fragment(message, 0, first)),
                record(header, 2 * copy + 1, &fragment(message, half, second)),
            ];
        }
        whole.extend(record(header, 2 * copy, content));
    }
    vec![whole]
}

/// Returns a record with four times its number and a little: there is room for three others behind each.
fn record(header: &[u8], behind: u64, content: &[u8]) -> Vec<u8> {
    let mut number = [0; 8];
    number[2..].copy_from_slice(&header[5..11]);
    let is_plain = header[3..5] == [0, 0];
    let number = match is_plain {
        true => u64::from_be_bytes(number) * 4 + behind,
        false => u64::from_be_bytes(number),
    };
    let mut record = header[..5].to_vec();
    record.extend(&number.to_be_bytes()[2..]);
    record.extend((content.len() as u16).to_be_bytes());
    record.extend(content);
    record
}

fn fragment(message: &[u8], offset: usize, body: &[u8]) -> Vec<u8> {
    let mut fragment = message[..6].to_vec();
    fragment.extend(&(offset as u32).to_be_bytes()[1..]);
    fragment.extend(&(body.len() as u32).to_be_bytes()[1..]);
    fragment.extend(body);
    fragment
}

const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
