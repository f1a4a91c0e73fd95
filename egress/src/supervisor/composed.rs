//! What a worker is told to compose.

use std::time::Instant;

use super::Run;
use crate::{link::Command, overload::Level, preset::Mode, scene::Scene, wish::Wish};

impl Run {
    /// Composes something else.
    pub(super) fn show(&mut self, wish: Wish) {
        if let Some(mode @ Mode::Composed(_)) = wish.mode() {
            self.supervisor.mode = mode;
            self.supervisor.wish = wish;
            self.send_preset();
            self.send_scene();
        }
    }

    pub(super) fn handle_level(&mut self, now: Instant) {
        let level = *self.supervisor.level.borrow_and_update();
        let (before, _) = std::mem::replace(&mut self.degraded, (level, now));
        match (before, level) {
            (Level::Paused, Level::Paused) => {}
            (_, Level::Paused) => self.job.pause(now),
            (Level::Paused, _) => self.job.resume(now),
            _ => self.send_preset(),
        }
        if level > before {
            tracing::warn!(?level, "egress degraded: this server has too much to do");
        } else {
            tracing::info!(?level, "egress gets back what it had");
        }
    }

    /// Returns how the picture is made at the moment.
    pub(super) fn mode(&self) -> Mode {
        match self.supervisor.mode {
            Mode::PassThrough => Mode::PassThrough,
            Mode::Composed(preset) => Mode::Composed(preset.at(self.degraded.0)),
        }
    }

    fn send_preset(&mut self) {
        if let Mode::Composed(preset) = self.mode() {
            if self.can_wait() {
                self.behind = true;
            } else {
                self.send(&Command::Preset(preset));
            }
        }
    }

    /// Tells the worker what to compose, if it composes.
    pub(super) fn send_scene(&mut self) {
        if self.supervisor.mode == Mode::PassThrough {
            return;
        }
        let stage = self.supervisor.stage.borrow_and_update().clone();
        let wish = &self.supervisor.wish;
        let scene = if wish.is_stage() {
            Scene {
                layout: wish.layout.unwrap_or(stage.layout),
                ..stage
            }
        } else {
            Scene {
                look: stage.look,
                ..Scene::of_one()
            }
        };
        if self.can_wait() {
            self.behind = true;
        } else {
            self.send(&Command::Scene(scene));
        }
    }

    /// Returns whether the worker has enough to read: of scenes and presets only the last one counts.
    fn can_wait(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| !process.is_attentive())
    }

    /// Tells the worker what it was not told while it did not read.
    pub(super) fn catch_up(&mut self) {
        if self.behind && !self.can_wait() {
            self.behind = false;
            self.send_preset();
            self.send_scene();
        }
    }
}
