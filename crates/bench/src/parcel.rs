//! The baseline's only message: bytes of a chosen length.

use prost::Message;

/// The encoded sizes of a call's request and answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    pub(crate) answer: usize,
}

/// A request, an answer or an event of the echo server.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Parcel {
    /// How much padding the answer should have.
    #[prost(uint32, tag = "1")]
    pub(crate) answer_padding: u32,
    /// How much padding the event of the call should have.
    #[prost(uint32, tag = "2")]
    pub(crate) event_padding: u32,
    /// Makes this message as long as its model.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) padding: Vec<u8>,
}

impl Parcel {
    /// A request as long as its model, which requests an answer as long as its model's.
    pub(crate) fn request(sizes: Sizes) -> Self {
        Self::broadcast(sizes, 0)
    }

    /// A request that also sends an event of `event` bytes to every subscriber.
    pub(crate) fn broadcast(sizes: Sizes, event: usize) -> Self {
        let empty = Self {
            answer_padding: Self::default().padding_up_to(sizes.answer),
            event_padding: Self::default().padding_up_to(event),
            padding: Vec::new(),
        };
        let length = empty.padding_up_to(sizes.request);
        Self {
            padding: zeros(length),
            ..empty
        }
    }

    pub(crate) fn padded(length: u32) -> Self {
        Self {
            padding: zeros(length),
            ..Self::default()
        }
    }

    /// How much padding makes this `bytes` long, to within the one or two bytes of the length prefix.
    fn padding_up_to(&self, bytes: usize) -> u32 {
        let most = bytes.saturating_sub(self.encoded_len());
        let too_long = Self {
            padding: vec![0; most],
            ..self.clone()
        };
        let excess = too_long.encoded_len().saturating_sub(bytes);
        u32::try_from(most.saturating_sub(excess)).unwrap_or(u32::MAX)
    }
}

fn zeros(length: u32) -> Vec<u8> {
    vec![0; usize::try_from(length).unwrap_or(usize::MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_are_as_long_as_their_models() {
        for request in [20, 127, 128, 129, 400, 16_384, 70_000] {
            for answer in [4, 130, 1_000] {
                let parcel = Parcel::broadcast(Sizes { request, answer }, answer);
                assert!(request - parcel.encoded_len() <= 1, "{request}");
                let back = Parcel::padded(parcel.answer_padding);
                assert!(answer - back.encoded_len() <= 1, "{answer}");
                assert_eq!(parcel.answer_padding, parcel.event_padding);
            }
        }
    }
}
