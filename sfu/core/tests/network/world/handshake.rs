//! What a client says in a DTLS handshake, put into datagrams as other clients do.

/// Cuts a ClientHello in two (RFC 6347 §4.2.3), as clients do whose keys are large. Returns the datagrams.
pub(super) fn in_pieces(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut rest = datagram;
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
        let (content, behind) =
            behind.split_at(usize::from(u16::from_be_bytes([header[11], header[12]])));
        rest = behind;
        if header[0] == HANDSHAKE && content[0] == CLIENT_HELLO {
            let (message, body) = content.split_at(MESSAGE_HEADER);
            let half = body.len() / 2;
            let (first, second) = body.split_at(half);
            return vec![
                record(header, 0, &fragment(message, 0, first)),
                record(header, 1, &fragment(message, half, second)),
            ];
        }
        whole.extend(record(header, 0, content));
    }
    vec![whole]
}

/// Returns a record with twice its number and a bit: there is room for another one behind each.
fn record(header: &[u8], behind: u64, content: &[u8]) -> Vec<u8> {
    let mut number = [0; 8];
    number[2..].copy_from_slice(&header[5..11]);
    let is_plain = header[3..5] == [0, 0];
    let number = match is_plain {
        true => u64::from_be_bytes(number) * 2 + behind,
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
