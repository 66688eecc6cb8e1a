//! Every field of every RPC, from the descriptors: a new one is covered automatically.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tessera_proto::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::{HeaderMap, uri::PathAndQuery},
    metadata::MetadataMap,
    transport::Channel,
};

/// The depth to which nested messages are filled.
const DEPTH_MAX: usize = 8;

/// The services, and their request messages.
pub(super) struct Contract {
    messages: BTreeMap<String, DescriptorProto>,
    pub(super) rpcs: Vec<Rpc>,
}

#[derive(Clone)]
pub(super) struct Rpc {
    pub(super) service: String,
    pub(super) name: String,
    input: String,
}

/// One field, by the numbers of the fields that lead to it.
#[derive(Clone)]
pub(super) struct Leaf {
    path: Vec<u32>,
    kind: Type,
}

impl Contract {
    pub(super) fn read() -> Self {
        let mut contract = Self {
            messages: BTreeMap::new(),
            rpcs: Vec::new(),
        };
        for set in [
            tessera_proto::FILE_DESCRIPTOR_SET,
            tessera_proto::UPSTREAM_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                let package = file.package().to_owned();
                for message in file.message_type {
                    contract.add(&format!(".{package}"), message);
                }
                for service in file.service {
                    contract.rpcs.extend(service.method.iter().map(|method| Rpc {
                        service: format!("{package}.{}", service.name()),
                        name: method.name().to_owned(),
                        input: method.input_type().to_owned(),
                    }));
                }
            }
        }
        contract
    }

    fn add(&mut self, scope: &str, mut message: DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in std::mem::take(&mut message.nested_type) {
            self.add(&name, nested);
        }
        self.messages.insert(name, message);
    }

    pub(super) fn services(&self) -> BTreeSet<&str> {
        self.rpcs.iter().map(|rpc| rpc.service.as_str()).collect()
    }

    /// Every field of an RPC's request.
    pub(super) fn leaves(&self, rpc: &Rpc) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        self.descend(&rpc.input, &mut Vec::new(), &mut Vec::new(), &mut leaves);
        leaves
    }

    fn descend<'a>(
        &'a self,
        name: &'a str,
        path: &mut Vec<u32>,
        within: &mut Vec<&'a str>,
        leaves: &mut Vec<Leaf>,
    ) {
        // A recursive message is entered once.
        if within.contains(&name) || within.len() == DEPTH_MAX {
            return;
        }
        let message = self.messages.get(name).unwrap_or_else(|| panic!("no {name}"));
        within.push(name);
        for field in &message.field {
            path.push(field.number().unsigned_abs());
            match field.r#type() {
                Type::Message | Type::Group => self.descend(field.type_name(), path, within, leaves),
                kind => leaves.push(Leaf {
                    path: path.clone(),
                    kind,
                }),
            }
            path.pop();
        }
        within.pop();
    }

    /// Plausible texts in the other fields, so that this one is checked.
    pub(super) fn neighbours(&self, rpc: &Rpc, leaf: &Leaf) -> Vec<u8> {
        let message = &self.messages[&rpc.input];
        let is_other = |field: &&FieldDescriptorProto| {
            field.r#type() == Type::String
                && field.oneof_index.is_none()
                && field.number().unsigned_abs() != leaf.path[0]
        };
        let mut bytes = Vec::new();
        for field in message.field.iter().filter(is_other) {
            let text = match (field.name(), field.label()) {
                ("subject", _) => "user:ann",
                ("roles", _) => "role:viewer",
                ("scopes", _) => "videos:read",
                (_, Label::Repeated) => continue,
                _ => "plain",
            };
            put_bytes(&mut bytes, field.number().unsigned_abs(), text.as_bytes());
        }
        bytes
    }
}

impl Leaf {
    pub(super) fn takes_text(&self) -> bool {
        matches!(self.kind, Type::String | Type::Bytes)
    }

    /// The message with this field set: to `text`, or to the maximum of a number.
    pub(super) fn message(&self, text: &[u8]) -> Vec<u8> {
        let (number, outer) = self.path.split_last().unwrap();
        let mut bytes = Vec::new();
        match self.kind {
            Type::String | Type::Bytes => put_bytes(&mut bytes, *number, text),
            Type::Fixed64 | Type::Sfixed64 | Type::Double => {
                put_varint(&mut bytes, u64::from(*number) << 3 | 1);
                bytes.extend([0xff; 8]);
            }
            Type::Fixed32 | Type::Sfixed32 | Type::Float => {
                put_varint(&mut bytes, u64::from(*number) << 3 | 5);
                bytes.extend([0xff; 4]);
            }
            _ => {
                put_varint(&mut bytes, u64::from(*number) << 3);
                put_varint(&mut bytes, u64::MAX);
            }
        }
        for number in outer.iter().rev() {
            let inner = std::mem::take(&mut bytes);
            put_bytes(&mut bytes, *number, &inner);
        }
        bytes
    }
}

fn put_bytes(into: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(into, u64::from(number) << 3 | 2);
    put_varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn put_varint(into: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, into);
}

/// Messages that are encoded already, and answers that are not decoded.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        let length = prost::bytes::Buf::remaining(from);
        prost::bytes::Buf::advance(from, length);
        Ok(Some(()))
    }
}

/// Calls an RPC, and waits for its first answer.
pub(super) async fn call(
    channel: Channel,
    rpc: &Rpc,
    headers: HeaderMap,
    message: Vec<u8>,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/{}/{}", rpc.service, rpc.name)).unwrap();
    let messages = tokio_stream::once(message);
    let metadata = MetadataMap::from_headers(headers);
    let request = Request::from_parts(metadata, tonic::Extensions::new(), messages);
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    answers.message().await.map(drop)
}
