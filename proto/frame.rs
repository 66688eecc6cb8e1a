//! `Watch` for servers that send one event to many: what is sent is encoded before, and shared.

use prost::{Message, bytes::Bytes};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::generated::v1::{WatchRequest, WatchResponse};

/// A stream's buffer: an event has some 200 bytes, and there are many streams.
const BUFFER: usize = 1024;
/// How much may wait to be sent before the transport is asked to.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// An encoded [`WatchResponse`]; a clone shares its bytes.
#[derive(Clone, Debug)]
pub struct WatchFrame(Bytes);

impl WatchFrame {
    /// The encoded message.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<WatchResponse> for WatchFrame {
    fn from(response: WatchResponse) -> Self {
        Self(response.encode_to_vec().into())
    }
}

/// Reads [`WatchRequest`]s and writes [`WatchFrame`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = WatchFrame;
    type Decode = WatchRequest;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<WatchRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<WatchRequest, WatchRequest>::raw_decoder(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }
}

/// Writes [`WatchFrame`]s.
#[derive(Clone, Copy, Debug)]
pub struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = WatchFrame;
    type Error = Status;

    fn encode(&mut self, frame: WatchFrame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put(buffer, frame.0);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD_THRESHOLD)
    }
}
