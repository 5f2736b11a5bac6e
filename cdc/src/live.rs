//! Before and after image against `live_when`: what one changed row does to the live set.
//!
//! In: the spans of one or two images. Out: at most two changes in the transaction's net: a row that goes on,
//! changes or goes off; a moved key is both an off and an on. A row that is live in neither image costs the
//! predicate's columns and nothing else; where that is one column, rows of an event that agree in it cost a comparison.

use onair_model::plant::{Bug, planted};
use onair_model::predicate::Truth;
use onair_model::value::Value;

use crate::decode::DecodeError;
use crate::decode::image::Span;
use crate::decode::net::{FeedNet, Span as Written};
use crate::decode::plan::Plan;
use crate::encode::Encoder;
use crate::feed::Feed;
use crate::json::{self, BadJson};

/// Everything that judging the rows of one event needs.
pub(crate) struct Judge<'a> {
    pub(crate) feed: &'a Feed,
    pub(crate) plan: &'a Plan,
    pub(crate) body: &'a [u8],
    pub(crate) encoder: &'a mut Encoder,
    pub(crate) net: &'a mut FeedNet,
    /// A buffer for JSON text.
    pub(crate) json: &'a mut Vec<u8>,
    /// Slots that the after image at hand holds as differences to the before image.
    pub(crate) partial: &'a mut Vec<u16>,
    /// The predicate's only column as it was judged last, and how: the next row mostly has the same there.
    pub(crate) judged: Option<(Span, bool)>,
}

const DIFFERENCE_TO_NULL: BadJson = BadJson("a difference to NULL");

/// How many key columns are encoded without an allocation.
const KEY_FEW: usize = 4;

impl Judge<'_> {
    /// An inserted row.
    pub(crate) fn insert(&mut self, after: &[Span]) -> Result<(), DecodeError> {
        if self.is_live(after)? {
            let row = self.row(after, None)?;
            self.change(after, None, Some(row))?;
        }
        Ok(())
    }

    /// A deleted row.
    pub(crate) fn delete(&mut self, before: &[Span]) -> Result<(), DecodeError> {
        if self.is_live(before)? {
            let row = self.row(before, None)?;
            self.change(before, Some(row), None)?;
        }
        Ok(())
    }

    /// Whether an updated row is live in one of its images at least. Their spans of the predicate's columns are enough.
    #[inline]
    pub(crate) fn touches(&mut self, before: &[Span], after: &[Span]) -> Result<bool, DecodeError> {
        Ok(self.is_live(before)? || self.is_live(after)?)
    }

    /// An updated row.
    pub(crate) fn update(&mut self, before: &[Span], after: &[Span]) -> Result<(), DecodeError> {
        let same = |slot: &u16| is_same(self.body, self.partial, *slot, before, after);
        let same_truth = self.plan.predicate.iter().all(same);
        let was = self.is_live(before)?;
        let is = if same_truth {
            was
        } else {
            self.is_live(after)?
        };
        if !was && !is {
            return Ok(());
        }
        let same = |slot: &u16| is_same(self.body, self.partial, *slot, before, after);
        let same_row = self.plan.exported.iter().all(same);
        let same_key = self.plan.key.iter().all(same);
        if was && is && same_row && same_key {
            return Ok(());
        }
        let was = was.then(|| self.row(before, None)).transpose()?;
        let is = match (is, was) {
            (true, Some(row)) if same_row => Some(row),
            (true, _) => Some(self.row(after, Some(before))?),
            (false, _) => None,
        };
        if same_key {
            return self.change(after, was, is);
        }
        if was.is_some() {
            self.change(before, was, None)?;
        }
        if is.is_some() {
            self.change(after, None, is)?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        spans: &[Span],
        before: Option<Written>,
        after: Option<Written>,
    ) -> Result<(), DecodeError> {
        if after.is_none() && planted(Bug::OffLost) {
            return Ok(());
        }
        let plan = self.plan;
        if let [slot] = plan.key[..] {
            match plan.value(slot, spans, self.body)? {
                Value::UInt(n) => {
                    self.net.change_eight(n, before, after);
                    return Ok(());
                }
                Value::Int(n) => {
                    self.net.change_eight(n as u64 ^ 1 << 63, before, after);
                    return Ok(());
                }
                value => {
                    let key = self.encoder.key_bytes(&[value])?;
                    self.net.change(key, before, after);
                    return Ok(());
                }
            }
        }
        let mut few = [Value::Null; KEY_FEW];
        let mut many = Vec::new();
        let values = match few.get_mut(..plan.key.len()) {
            Some(few) => few,
            None => {
                many.resize(plan.key.len(), Value::Null);
                &mut many[..]
            }
        };
        for (value, &slot) in values.iter_mut().zip(&plan.key) {
            *value = plan.value(slot, spans, self.body)?;
        }
        let key = self.encoder.key_bytes(values)?;
        self.net.change(key, before, after);
        Ok(())
    }

    /// Writes the row of an image; `before` is what the differences in it refer to.
    fn row(&mut self, spans: &[Span], before: Option<&[Span]>) -> Result<Written, DecodeError> {
        let Judge {
            plan,
            body,
            encoder,
            net,
            json,
            partial,
            ..
        } = self;
        net.write(body.len(), |out| {
            for (index, &slot) in plan.exported.iter().enumerate() {
                let value = plan.value(slot, spans, body)?;
                let Value::Bytes(binary) = value else {
                    encoder.field(index, &value, out)?;
                    continue;
                };
                if !plan.is_json(slot) {
                    encoder.field(index, &value, out)?;
                    continue;
                }
                json.clear();
                match before {
                    Some(before) if partial.contains(&slot) => {
                        match before[usize::from(slot)].of(body) {
                            Some(before) => json::apply(before, binary, json)?,
                            None => return Err(DIFFERENCE_TO_NULL.into()),
                        }
                    }
                    _ => json::text(binary, json)?,
                }
                encoder.field(index, &Value::Bytes(json), out)?;
            }
            Ok(())
        })
    }

    #[inline]
    fn is_live(&mut self, spans: &[Span]) -> Result<bool, DecodeError> {
        let [slot] = self.plan.predicate[..] else {
            return self.judge(spans);
        };
        let span = spans[usize::from(slot)];
        if let Some((judged, is_live)) = self.judged
            && judged.of(self.body) == span.of(self.body)
        {
            return Ok(is_live);
        }
        let is_live = self.judge(spans)?;
        self.judged = Some((span, is_live));
        Ok(is_live)
    }

    fn judge(&self, spans: &[Span]) -> Result<bool, DecodeError> {
        let columns = &self.plan.predicate;
        match columns.len() {
            0 => self.evaluate::<0>(spans),
            1 => self.evaluate::<1>(spans),
            2 => self.evaluate::<2>(spans),
            3 => self.evaluate::<3>(spans),
            4 => self.evaluate::<4>(spans),
            5..=8 => self.evaluate::<8>(spans),
            many => {
                let mut values = vec![Value::Null; many];
                self.evaluate_in(&mut values, spans)
            }
        }
    }

    /// With room for `N` values, without an allocation.
    #[inline]
    fn evaluate<const N: usize>(&self, spans: &[Span]) -> Result<bool, DecodeError> {
        let mut values = [Value::Null; N];
        let len = self.plan.predicate.len();
        self.evaluate_in(&mut values[..len], spans)
    }

    #[inline]
    fn evaluate_in<'v>(
        &'v self,
        values: &mut [Value<'v>],
        spans: &[Span],
    ) -> Result<bool, DecodeError> {
        let columns = &self.plan.predicate;
        if self.plan.pads {
            return self.evaluate_padded(values.len(), spans);
        }
        for (value, &slot) in values.iter_mut().zip(columns) {
            *value = self.plan.value(slot, spans, self.body)?;
        }
        Ok(self.feed.live_when.eval(values) == Truth::True)
    }

    /// BINARY(n) is compared with its zero bytes.
    fn evaluate_padded(&self, len: usize, spans: &[Span]) -> Result<bool, DecodeError> {
        let columns = &self.plan.predicate;
        let pad = |&slot: &u16| self.plan.padded(slot, spans, self.body);
        let padded: Vec<Vec<u8>> = columns.iter().map(pad).collect();
        let mut values = vec![Value::Null; len];
        for ((value, &slot), padded) in values.iter_mut().zip(columns).zip(&padded) {
            *value = if padded.is_empty() {
                self.plan.value(slot, spans, self.body)?
            } else {
                Value::Bytes(padded)
            };
        }
        Ok(self.feed.live_when.eval(&values) == Truth::True)
    }
}

/// Whether a slot is the same in both images of an update. `partial` are those that the after image has as differences.
#[inline]
fn is_same(body: &[u8], partial: &[u16], slot: u16, before: &[Span], after: &[Span]) -> bool {
    let after = after[usize::from(slot)].of(body);
    if !partial.is_empty() && partial.contains(&slot) {
        return after == Some(&[]);
    }
    before[usize::from(slot)].of(body) == after
}
