//! Sending spans, and counting their outcomes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use parking_lot::Mutex;
use tessera_server::{SpanCounts, SpanOutcome};
use tonic::{
    Request, Status,
    metadata::{KeyAndValueRef, MetadataMap},
};

use super::environment::Settings;
use crate::collector::Collector;

/// How many spans wait to be sent.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    count: Arc<AtomicUsize>,
    max: usize,
}

impl Waiting {
    pub(super) fn up_to(max: usize) -> Self {
        Self {
            count: Arc::default(),
            max,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether one more may wait.
    fn admit(&self) -> bool {
        let more = |count| (count < self.max).then_some(count + 1);
        let admitted = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        admitted.is_ok()
    }

    fn leave(&self, spans: usize) {
        self.count.fetch_sub(spans, Ordering::Relaxed);
    }
}

/// Admits spans up to the limit of waiting ones.
#[derive(Debug)]
pub(super) struct Counted {
    sent: BatchSpanProcessor,
    counts: SpanCounts,
    waiting: Waiting,
}

impl Counted {
    pub(super) fn new(sent: BatchSpanProcessor, counts: SpanCounts, waiting: Waiting) -> Self {
        Self {
            sent,
            counts,
            waiting,
        }
    }
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.sent.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.admit() {
            self.sent.on_end(span);
        } else {
            self.counts.add(SpanOutcome::dropped, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.sent.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sent.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sent.set_resource(resource);
    }
}

/// Sends spans with the current headers.
#[derive(Debug)]
pub(super) struct Exporter {
    sent: OtlpExporter,
    collector: Collector,
    headers: Arc<Mutex<MetadataMap>>,
    counts: SpanCounts,
    waiting: Waiting,
    /// Why the last batch was not accepted, as the log has it.
    problem: Mutex<Option<String>>,
}

impl Exporter {
    pub(super) fn new(settings: &Settings, counts: SpanCounts, waiting: Waiting) -> Result<Self, String> {
        let collector = settings.collector.clone();
        let channel = collector.channel(settings.time_max);
        let channel = channel.map_err(|error| error.to_string())?;
        let headers = Arc::<Mutex<MetadataMap>>::default();
        let of_the_moment = Arc::clone(&headers);
        let add = move |mut request: Request<()>| -> Result<Request<()>, Status> {
            for header in of_the_moment.lock().iter() {
                match header {
                    KeyAndValueRef::Ascii(name, value) => {
                        request.metadata_mut().append(name, value.clone());
                    }
                    KeyAndValueRef::Binary(name, value) => {
                        request.metadata_mut().append_bin(name, value.clone());
                    }
                }
            }
            Ok(request)
        };
        let sent = OtlpExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_interceptor(add)
            .with_timeout(settings.time_max)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            sent,
            collector,
            headers,
            counts,
            waiting,
            problem: Mutex::default(),
        })
    }

    /// Logs a problem once, until it changes or is over.
    fn note(&self, result: &OTelSdkResult) {
        let mut noted = self.problem.lock();
        match result {
            Ok(()) if noted.take().is_some() => tracing::info!("the collector takes spans again"),
            Ok(()) => {}
            Err(error) => {
                let problem = error.to_string();
                if noted.as_ref() != Some(&problem) {
                    tracing::error!(problem, "the collector does not take spans: they are lost");
                    *noted = Some(problem);
                }
            }
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.leave(spans);
        let result = match self.collector.headers() {
            Ok(headers) => {
                *self.headers.lock() = headers;
                self.sent.export(batch).await
            }
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        let outcome = if result.is_ok() {
            SpanOutcome::exported
        } else {
            SpanOutcome::failed
        };
        self.counts.add(outcome, u64::try_from(spans).unwrap_or(u64::MAX));
        self.note(&result);
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sent.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::{BatchConfigBuilder, SdkTracerProvider};

    use super::*;

    /// Accepts a batch when the test allows it.
    #[derive(Debug)]
    struct Told {
        waiting: Waiting,
        taken: mpsc::Sender<usize>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl SpanExporter for Told {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.waiting.leave(batch.len());
            self.taken.send(batch.len()).unwrap();
            // An error means that the test has ended.
            let _ = self.go_on.lock().recv();
            Ok(())
        }
    }

    #[test]
    fn as_many_spans_wait_as_may_and_more_are_dropped_and_counted() {
        let (counts, waiting) = (SpanCounts::default(), Waiting::up_to(10));
        let (taken, taking) = mpsc::channel();
        let (go_on, told) = mpsc::channel();
        let exporter = Told {
            waiting: waiting.clone(),
            taken,
            go_on: Mutex::new(told),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(10)
            .with_max_export_batch_size(1)
            .build();
        let sent = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Counted::new(sent, counts.clone(), waiting.clone()))
            .build();
        let span = || drop(provider.tracer("test").start("span"));
        span();
        assert_eq!(taking.recv().unwrap(), 1);
        // The collector has not answered yet.
        for _ in 0..15 {
            span();
        }
        assert_eq!(waiting.count(), 10);
        assert_eq!(counts.count(SpanOutcome::dropped), 5);
        for _ in 0..11 {
            go_on.send(()).unwrap();
        }
        provider.shutdown_with_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(taking.iter().sum::<usize>(), 10);
        assert_eq!(waiting.count(), 0);
    }
}
