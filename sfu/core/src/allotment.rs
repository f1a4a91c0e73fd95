//! [`Allotment`]: what a viewer's slots are to show, over time.

use std::time::{Duration, Instant};

use crate::{
    MediaKind, PublicationId, allocate,
    allocate::{Want, allocate, on_wire},
    flow::{Flow, News},
    ladder::Rung,
    publication::Publication,
    subscription::Subscription,
};

/// Asks [`allocate`] now and then, and keeps a viewer from climbing to where it has just fallen from.
#[derive(Debug, Default)]
pub(crate) struct Allotment {
    /// The highest layer the viewer wants; `None` for no limit.
    limit: Option<u8>,
    due: Option<Instant>,
    /// By subscription: what was chosen.
    chosen: Vec<Option<Choice>>,
    climbed_at: Option<Instant>,
    no_climb_until: Option<Instant>,
    /// Climbs that the path did not carry since one that it did.
    falls: u32,
    /// Whether the path carries less than the best, and nothing of some picture.
    outcome: (bool, bool),
    /// What the qualities took at most lately.
    peaks: Vec<Peak>,
    fades_at: Option<Instant>,
    /// Since when a picture that is shown does not fit.
    starving_since: Option<Instant>,
    /// What audio takes, bit/s.
    audio: u64,
}

/// What a viewer's subscriptions show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots<'a> {
    /// By position of the subscription.
    pub(crate) shown: &'a [Option<&'a Publication>],
    /// The publication that matters most.
    pub(crate) first: Option<PublicationId>,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    rung: Rung,
    /// Since when less than half of the pictures are shown, for the sake of their size.
    choppy_since: Option<Instant>,
}

/// What there is for a slot.
#[derive(Debug)]
struct Offer {
    /// The position of its subscription.
    position: usize,
    /// The qualities that come into question, the lowest first.
    ladder: Vec<Rung>,
    /// The position of what is shown.
    current: Option<usize>,
}

/// What a quality took at most, fading over some seconds: encoders ramp up, and quiet pictures take little.
#[derive(Clone, Copy, Debug)]
struct Peak {
    publication: PublicationId,
    rung: Rung,
}

impl Allotment {
    /// Sets the highest layer the viewer wants.
    pub(crate) fn set_limit(&mut self, limit: Option<u8>) {
        self.limit = limit;
        self.due = None;
    }

    /// Returns whether the path carries less than the best of what is to be shown.
    pub(crate) fn is_limited(&self) -> bool {
        self.outcome.0
    }

    /// Returns whether some picture is not shown at all.
    pub(crate) fn is_paused(&self) -> bool {
        self.outcome.1
    }

    /// Returns what was chosen for a subscription.
    pub(crate) fn chosen(&self, position: usize) -> Option<Rung> {
        Some(self.chosen.get(position)?.as_ref()?.rung)
    }

    /// Returns whether to choose anew: a few times a second, and at once after news.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Takes the path's news.
    pub(crate) fn handle(&mut self, news: News, now: Instant) {
        match news {
            News::None => {}
            News::More => self.due = None,
            News::Congested => {
                self.due = None;
                let since = |at: Instant| now.saturating_duration_since(at);
                self.falls = match self.climbed_at.take().map(since) {
                    Some(stood) if stood < PROOF => (self.falls + 1).min(MOST_FALLS),
                    Some(_) => 0,
                    // It says nothing about a climb.
                    None => self.falls,
                };
                let pause = AFTER_CONGESTION * 2_u32.pow(self.falls);
                self.no_climb_until = self.no_climb_until.max(Some(now + pause));
            }
        }
    }

    /// Chooses anew.
    pub(crate) fn run(
        &mut self,
        subscriptions: &mut [Subscription],
        slots: &Slots<'_>,
        flow: &mut Flow,
        now: Instant,
    ) {
        self.due = Some(now + INTERVAL);
        let audio = audio_share(subscriptions, slots.shown);
        self.audio = audio;
        self.note_peaks(slots, now);
        let offers = self.offers(subscriptions, slots, now);
        let may_climb = self.no_climb_until.is_none_or(|until| now >= until);
        let wants: Vec<_> = offers
            .iter()
            .map(|offer| Want {
                ladder: &offer.ladder,
                current: offer.current,
                may_climb,
            })
            .collect();
        let mut chosen = match flow.budget() {
            None => wants
                .iter()
                .map(|want| want.ladder.len().checked_sub(1))
                .collect(),
            Some(budget) => {
                let left = budget.saturating_sub(audio);
                allocate(left.max(first_picture(&wants, flow)), &wants)
            }
        };
        self.bear(&wants, &mut chosen, flow.suffers(), now);
        if chosen
            .iter()
            .zip(&wants)
            .any(|(to, want)| *to > want.current && want.current.is_some())
        {
            self.climbed_at = Some(now);
        }
        let pairs = || chosen.iter().zip(&wants);
        self.outcome = (
            pairs().any(|(to, want)| *to != want.ladder.len().checked_sub(1)),
            chosen.contains(&None),
        );
        self.seek(audio, &wants, slots, flow, now);
        self.note_choices(&offers, &chosen, subscriptions, now);
    }

    /// Keeps what was chosen, and tells the subscriptions.
    fn note_choices(
        &mut self,
        offers: &[Offer],
        chosen: &[Option<usize>],
        subscriptions: &mut [Subscription],
        now: Instant,
    ) {
        self.chosen.resize(subscriptions.len(), None);
        for (position, before) in self.chosen.iter_mut().enumerate() {
            let mut pairs = offers.iter().zip(chosen);
            let Some((Offer { ladder, .. }, choice)) =
                pairs.find(|(offer, _)| offer.position == position)
            else {
                *before = None;
                continue;
            };
            let rung = choice.and_then(|choice| ladder.get(choice)).copied();
            *before = rung.map(|rung| {
                let is_choppy = rung.level() > 0 && rung.is_choppy(ladder);
                let since = before.and_then(|before| before.choppy_since);
                Choice {
                    rung,
                    choppy_since: is_choppy.then_some(since.unwrap_or(now)),
                }
            });
            if let Some(subscription) = subscriptions.get_mut(position) {
                subscription.set_target(rung);
            }
        }
    }

    /// Goes on showing the lowest quality where not even that is believed to fit, until it has done harm for a
    /// while: a picture that was paused needs a keyframe to come back.
    fn bear(
        &mut self,
        wants: &[Want<'_>],
        chosen: &mut [Option<usize>],
        suffers: bool,
        now: Instant,
    ) {
        let starves =
            |(to, want): (&Option<usize>, &Want<'_>)| to.is_none() && want.current.is_some();
        if !chosen.iter().zip(wants).any(starves) {
            self.starving_since = None;
            return;
        }
        let since = *self.starving_since.get_or_insert(now);
        if !suffers || now.saturating_duration_since(since) < PATIENCE {
            for (to, want) in chosen.iter_mut().zip(wants) {
                *to = to.or(want.current.map(|_| 0));
            }
        }
    }

    /// Returns what there is for the video slots that show something, in order of priority.
    fn offers(
        &self,
        subscriptions: &[Subscription],
        slots: &Slots<'_>,
        now: Instant,
    ) -> Vec<Offer> {
        let is_later = |offer: &Offer| {
            let publication = slots.shown.get(offer.position).copied().flatten();
            publication.is_none_or(|p| Some(p.id) != slots.first)
        };
        let shown = subscriptions.iter().zip(slots.shown).enumerate();
        let video = shown.filter(|(_, (subscription, _))| subscription.kind == MediaKind::Video);
        let mut offers: Vec<_> = video
            .filter_map(|(position, (_, publication))| self.offer(position, (*publication)?, now))
            .collect();
        offers.sort_by_key(is_later);
        offers
    }

    fn offer(&self, position: usize, publication: &Publication, now: Instant) -> Option<Offer> {
        let within = |rung: &&Rung| self.limit.is_none_or(|limit| rung.level() <= limit);
        let mut ladder: Vec<_> = publication
            .ladder()
            .iter()
            .filter(within)
            .copied()
            .collect();
        if ladder.is_empty() {
            ladder.extend(publication.ladder().first());
        }
        let chosen = self.chosen.get(position).copied().flatten();
        let chosen = chosen.filter(|chosen| ladder.iter().any(|rung| rung.is_same(chosen.rung)));
        let choppy_since = chosen.and_then(|chosen| chosen.choppy_since);
        let bearable = choppy_since.is_none_or(|since| now < since + CHOPPY);
        Rung::remove_detours(&mut ladder, chosen.map(|chosen| chosen.rung), bearable);
        let current = chosen.and_then(|Choice { rung: shown, .. }| {
            let left = ladder.iter().position(|rung| rung.is_same(shown));
            // If it was removed, what takes no more is the next best.
            let is_no_more = |rung: &Rung| rung.bitrate <= shown.bitrate;
            left.or_else(|| ladder.iter().rposition(is_no_more))
        });
        for rung in ladder
            .iter_mut()
            .skip(current.map_or(1, |current| current + 1))
        {
            rung.bitrate = self.peak(publication.id, *rung);
        }
        (!ladder.is_empty()).then_some(Offer {
            position,
            ladder,
            current,
        })
    }

    /// Takes the present bitrates, and lets the peaks of before fade.
    fn note_peaks(&mut self, slots: &Slots<'_>, now: Instant) {
        let fades = self.fades_at.is_none_or(|at| now >= at);
        if fades {
            self.fades_at = Some(now + INTERVAL);
        }
        let kept = |peak: u64| if fades { peak - peak / FADING } else { peak };
        let before = std::mem::take(&mut self.peaks);
        for publication in slots.shown.iter().copied().flatten() {
            let rungs = publication.ladder().iter().map(|rung| {
                let was = before.iter().find(|peak| peak.is_of(publication.id, *rung));
                let faded = was.map_or(0, |was| kept(was.rung.bitrate));
                Peak {
                    publication: publication.id,
                    rung: Rung {
                        bitrate: faded.max(rung.bitrate),
                        ..*rung
                    },
                }
            });
            self.peaks.extend(rungs);
        }
    }

    fn peak(&self, publication: PublicationId, rung: Rung) -> u64 {
        let mut peaks = self.peaks.iter();
        let peak = peaks.find(|peak| peak.is_of(publication, rung));
        peak.map_or(rung.bitrate, |peak| peak.rung.bitrate)
    }

    /// Looks for what would carry the best of everything, if less was chosen, or if there is more that nobody
    /// could be sent so far.
    fn seek(
        &self,
        audio: u64,
        wants: &[Want<'_>],
        slots: &Slots<'_>,
        flow: &mut Flow,
        now: Instant,
    ) {
        let shown = slots.shown.iter().copied().flatten();
        let wanted = shown.filter(|p| p.top().is_some_and(|top| self.wants_more_than(top)));
        let more: u64 = wanted.filter_map(growth).map(on_wire).sum();
        let tops = wants.iter().filter_map(|want| want.ladder.last());
        let best: u64 = tops.map(|rung| on_wire(rung.bitrate)).sum();
        // What is shown because there is nothing less may be more than is believed to be carried.
        let is_carried = flow
            .estimate()
            .is_none_or(|carried| carried >= best * 3 / 4);
        if !self.is_limited() && more == 0 && is_carried {
            flow.rest();
            return;
        }
        flow.seek(audio + (best + more) * allocate::MARGIN / 100, now);
    }

    /// Returns whether the viewer would be shown more than this quality if there were more.
    pub(crate) fn wants_more_than(&self, best: Rung) -> bool {
        self.limit.is_none_or(|limit| limit > best.level())
    }

    /// Returns whether the path would carry a layer of that bitrate in the place of `shown`.
    pub(crate) fn carries(&self, bitrate: u64, shown: Option<Rung>, flow: &Flow) -> bool {
        let Some(budget) = flow.budget().filter(|_| flow.is_measured()) else {
            return false;
        };
        let chosen = self.chosen.iter().flatten();
        let taken: u64 = chosen.map(|chosen| on_wire(chosen.rung.bitrate)).sum();
        let more = on_wire(bitrate.saturating_sub(shown.map_or(0, |rung| rung.bitrate)));
        taken + self.audio + more * allocate::MARGIN / 100 <= budget
    }
}

impl Peak {
    fn is_of(&self, publication: PublicationId, rung: Rung) -> bool {
        self.publication == publication && self.rung.is_same(rung)
    }
}

/// Returns what a layer that its sender has paused would take more than the best there is.
fn growth(publication: &Publication) -> Option<u64> {
    let (_, bitrate) = publication.paused()?;
    Some(bitrate.saturating_sub(publication.top()?.bitrate))
}

/// Returns what audio takes.
fn audio_share(subscriptions: &[Subscription], shown: &[Option<&Publication>]) -> u64 {
    let slots = subscriptions.iter().zip(shown);
    let audio = slots.filter(|(subscription, _)| subscription.kind == MediaKind::Audio);
    let shares = audio.filter_map(|(_, publication)| {
        let ladder = (*publication)?.ladder();
        let bitrate = ladder.last().map_or(0, |rung| rung.bitrate);
        Some((bitrate + AUDIO_HEADERS).max(AUDIO_FLOOR))
    });
    shares.sum()
}

/// Before anything is known of a path, a picture is shown whatever it takes.
fn first_picture(wants: &[Want<'_>], flow: &Flow) -> u64 {
    match flow.is_measured() {
        true => 0,
        false => {
            let lowest = wants.first().and_then(|want| want.ladder.first());
            lowest.map_or(0, |rung| on_wire(rung.bitrate) * 2)
        }
    }
}

/// How often layers are chosen.
const INTERVAL: Duration = Duration::from_millis(300);

/// What is taken off the budget for an audio slot at least, bit/s.
const AUDIO_FLOOR: u64 = 40_000;

/// Fifty packets a second, 64 bytes each.
const AUDIO_HEADERS: u64 = 26_000;

/// Congestion this soon after a climb is blamed on it.
const PROOF: Duration = Duration::from_secs(4);

/// The pause before climbing again; doubles with every fall.
const AFTER_CONGESTION: Duration = Duration::from_millis(800);
const MOST_FALLS: u32 = 4;

/// How long the lowest quality is shown though it does harm.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long a large picture is shown at less than half its frame rate, where a smaller one could have all of it.
const CHOPPY: Duration = Duration::from_secs(3);

/// The part of a peak that is gone after [`INTERVAL`]: half of it after six seconds.
const FADING: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_until_a_climb_has_stood() {
        let t0 = Instant::now();
        let mut allotment = Allotment::default();
        let mut congest = |climbed: Option<u64>, at: u64| {
            let at = t0 + Duration::from_secs(at);
            allotment.no_climb_until = None;
            allotment.climbed_at = climbed.map(|ago| at - Duration::from_secs(ago));
            allotment.handle(News::Congested, at);
            allotment.no_climb_until.unwrap() - at
        };
        assert_eq!(congest(Some(1), 10), AFTER_CONGESTION * 2);
        assert_eq!(congest(Some(1), 20), AFTER_CONGESTION * 4);
        assert_eq!(
            congest(None, 30),
            AFTER_CONGESTION * 4,
            "no climb, no verdict"
        );
        assert_eq!(congest(Some(1), 40), AFTER_CONGESTION * 8);
        assert_eq!(congest(Some(9), 50), AFTER_CONGESTION, "that one stood");
    }
}
