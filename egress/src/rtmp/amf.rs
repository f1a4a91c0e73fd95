//! AMF0, the encoding of RTMP commands.

/// A value. Kinds that no command of a server needs are read and dropped.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Boolean(bool),
    Text(String),
    Object(Vec<(String, Value)>),
    Null,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Returns a text field of an object.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let Self::Object(fields) = self else {
            return None;
        };
        let (_, value) = fields.iter().find(|(field, _)| field == name)?;
        match value {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Boolean(_) | Self::Object(_) | Self::Null => None,
        }
    }
}

/// Appends `values`. Texts are cut at 65535 bytes, which none of ours reaches.
pub(super) fn write(values: &[Value], to: &mut Vec<u8>) {
    for value in values {
        match value {
            Value::Number(number) => {
                to.push(NUMBER);
                to.extend_from_slice(&number.to_be_bytes());
            }
            Value::Boolean(boolean) => to.extend_from_slice(&[BOOLEAN, u8::from(*boolean)]),
            Value::Text(text) => {
                to.push(TEXT);
                write_name(text, to);
            }
            Value::Object(fields) => {
                to.push(OBJECT);
                for (name, value) in fields {
                    write_name(name, to);
                    write(std::slice::from_ref(value), to);
                }
                to.extend_from_slice(&[0, 0, OBJECT_END]);
            }
            Value::Null => to.push(NULL),
        }
    }
}

fn write_name(text: &str, to: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend(text.bytes().take(usize::from(length)));
}

/// Reads values until the end or the first that cannot be read.
pub(super) fn read(mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while values.len() < VALUE_LIMIT
        && let Some(value) = read_value(&mut bytes, 0)
    {
        values.push(value);
    }
    values
}

fn read_value(bytes: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH_LIMIT {
        return None;
    }
    let [kind] = take(bytes)?;
    Some(match kind {
        NUMBER | DATE => {
            let number = f64::from_be_bytes(take(bytes)?);
            if kind == DATE {
                take::<2>(bytes)?;
            }
            Value::Number(number)
        }
        BOOLEAN => Value::Boolean(take::<1>(bytes)? != [0]),
        TEXT => Value::Text(read_name(bytes)?),
        LONG_TEXT => {
            let length = u32::from_be_bytes(take(bytes)?) as usize;
            Value::Text(take_text(bytes, length)?)
        }
        OBJECT => read_fields(bytes, depth)?,
        ECMA_ARRAY => {
            take::<4>(bytes)?;
            read_fields(bytes, depth)?
        }
        STRICT_ARRAY => {
            let count = u32::from_be_bytes(take(bytes)?) as usize;
            for _ in 0..count.min(VALUE_LIMIT) {
                read_value(bytes, depth + 1)?;
            }
            Value::Null
        }
        NULL | UNDEFINED => Value::Null,
        _ => return None,
    })
}

fn read_fields(bytes: &mut &[u8], depth: usize) -> Option<Value> {
    let mut fields = Vec::new();
    loop {
        let name = read_name(bytes)?;
        if name.is_empty() {
            let [end] = take(bytes)?;
            return (end == OBJECT_END).then_some(Value::Object(fields));
        }
        if fields.len() >= VALUE_LIMIT {
            return None;
        }
        fields.push((name, read_value(bytes, depth + 1)?));
    }
}

fn read_name(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    take_text(bytes, length)
}

fn take_text(bytes: &mut &[u8], length: usize) -> Option<String> {
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const TEXT: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_TEXT: u8 = 12;
const VALUE_LIMIT: usize = 64;
const DEPTH_LIMIT: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|n| Value::Number(f64::from(n))),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zé]{0,12}".prop_map(Value::Text),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::vec(("[a-z]{1,5}", inner), 0..4).prop_map(Value::Object)
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_trip(values in prop::collection::vec(value(), 0..6)) {
            let mut bytes = Vec::new();
            write(&values, &mut bytes);
            prop_assert_eq!(read(&bytes), values);
        }

        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.extend_from_slice(&[OBJECT, 0, 1, b'a']);
        }
        assert_eq!(read(&bytes), []);
    }
}
