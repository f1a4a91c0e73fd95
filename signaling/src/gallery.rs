//! [`Gallery`]: the images of rooms, as files that whoever composes a picture may read without care.
//!
//! What is uploaded is decoded here, within limits, and kept as a PNG of our own making, no larger than it can be
//! shown.

use std::{
    fs::{self, File},
    io::{self, Cursor, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, imageops::FilterType,
};
use sfu::RoomId;
use thiserror::Error;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    look::{Image, kind_word},
    protocol::ImageKind,
};

/// The folder of images: in it one for each room, by its id.
#[derive(Clone, Debug)]
pub(crate) struct Gallery {
    folder: PathBuf,
    /// Each image that is being decoded takes up to [`MEMORY`].
    places: Arc<Semaphore>,
}

/// Why an image was not kept.
#[derive(Debug, Error)]
pub(crate) enum KeepError {
    /// It is not what it should be; says what.
    #[error("{0}")]
    Invalid(&'static str),
    /// It has too many pixels.
    #[error("the image is larger than {EDGE} x {EDGE} pixels")]
    TooLarge,
    /// It could not be written.
    #[error("write the image")]
    Write(#[from] io::Error),
}

impl Gallery {
    /// Keeps images in this folder, which is made when there is an image.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// Keeps what was uploaded, beside the one that was there before. Waits while others are being kept.
    pub(crate) async fn keep(
        &self,
        room: RoomId,
        kind: ImageKind,
        bytes: Vec<u8>,
    ) -> Result<Image, KeepError> {
        let place = self.places.clone().acquire_owned().await;
        let gallery = self.clone();
        let kept = spawn_blocking(move || {
            let _place = place;
            let (width, height, png) = prepare(kind, &bytes)?;
            let image = Image {
                version: version(&png),
                width,
                height,
            };
            gallery.write(room, kind, &image, &png)?;
            Ok(image)
        });
        kept.await
            .unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }

    /// Removes all images of a kind but this one.
    pub(crate) async fn tidy(&self, room: RoomId, kind: ImageKind, keep: Option<&Image>) {
        let folder = self.folder_of(room);
        let kept = keep.map(|image| self.file(room, kind, image));
        let tidied = spawn_blocking(move || {
            let prefix = format!("{}-", kind_word(kind));
            for entry in fs::read_dir(&folder)?.flatten() {
                let is_of_kind = entry.file_name().to_string_lossy().starts_with(&prefix);
                if is_of_kind && Some(entry.path()) != kept {
                    fs::remove_file(entry.path())?;
                }
            }
            io::Result::Ok(())
        });
        match tidied.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an image that is not used cannot be removed");
            }
            Ok(Ok(()) | Err(_)) | Err(_) => {}
        }
    }

    /// Returns where an image is.
    pub(crate) fn file(&self, room: RoomId, kind: ImageKind, image: &Image) -> PathBuf {
        let name = format!("{}-{:016x}.png", kind_word(kind), image.version);
        self.folder_of(room).join(name)
    }

    fn folder_of(&self, room: RoomId) -> PathBuf {
        self.folder.join(room.0.to_string())
    }

    fn write(&self, room: RoomId, kind: ImageKind, image: &Image, png: &[u8]) -> io::Result<()> {
        let path = self.file(room, kind, image);
        fs::create_dir_all(self.folder_of(room))?;
        let unfinished = path.with_extension("part");
        let written = write_synced(&unfinished, png).and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Returns the size and the PNG of what was uploaded.
fn prepare(kind: ImageKind, bytes: &[u8]) -> Result<(u32, u32, Vec<u8>), KeepError> {
    let picture = fitted(kind, decode(bytes)?);
    let (width, height) = (picture.width(), picture.height());
    let mut png = Cursor::new(Vec::new());
    let written = match kind {
        // Nothing is behind them.
        ImageKind::Background | ImageKind::Slate => {
            over_black(picture).write_to(&mut png, ImageFormat::Png)
        }
        ImageKind::Logo => {
            DynamicImage::ImageRgba8(picture.into_rgba8()).write_to(&mut png, ImageFormat::Png)
        }
    };
    written.map_err(|_| BROKEN)?;
    Ok((width, height, png.into_inner()))
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, KeepError> {
    let format = image::guess_format(bytes).ok();
    if !matches!(format, Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(KeepError::Invalid("this is neither a PNG nor a JPEG image"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes));
    if let Some(format) = format {
        reader.set_format(format);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    limits.max_image_width = Some(EDGE);
    limits.max_image_height = Some(EDGE);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(unusable)?;
    let (width, height) = decoder.dimensions();
    limits.check_dimensions(width, height).map_err(unusable)?;
    if width < SMALLEST || height < SMALLEST {
        return Err(KeepError::Invalid(
            "the image is smaller than 16 x 16 pixels",
        ));
    }
    // Cameras that were held upright write the picture lying and say so.
    let orientation = decoder.orientation().map_err(unusable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unusable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is given to map_err, and is used up there"
)]
fn unusable(error: ImageError) -> KeepError {
    match error {
        ImageError::Limits(_) => KeepError::TooLarge,
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Unsupported(_)
        | ImageError::IoError(_) => BROKEN,
    }
}

/// Makes it as small as the largest output shows it.
fn fitted(kind: ImageKind, picture: DynamicImage) -> DynamicImage {
    let (width, height) = match kind {
        ImageKind::Logo => (1280, 270),
        ImageKind::Background | ImageKind::Slate => (1920, 1920),
    };
    if picture.width() <= width && picture.height() <= height {
        return picture;
    }
    picture.resize(width, height, FilterType::CatmullRom)
}

fn over_black(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return DynamicImage::ImageRgb8(picture.into_rgb8());
    }
    let opaque = picture.into_rgba8();
    let mut flat = image::RgbImage::new(opaque.width(), opaque.height());
    for (to, from) in flat.pixels_mut().zip(opaque.pixels()) {
        let [r, g, b, a] = from.0;
        let over = |c: u8| u8::try_from(u16::from(c) * u16::from(a) / 255).unwrap_or(c);
        to.0 = [over(r), over(g), over(b)];
    }
    DynamicImage::ImageRgb8(flat)
}

fn version(bytes: &[u8]) -> u64 {
    let digest = digest::digest(&digest::SHA256, bytes);
    let head = digest.as_ref().first_chunk();
    u64::from_be_bytes(*head.expect("a digest has 32 bytes"))
}

const BROKEN: KeepError = KeepError::Invalid("the image is broken, or of a kind that is not known");
/// Longest edge of what is decoded.
pub(crate) const EDGE: u32 = 4096;
const SMALLEST: u32 = 16;
/// Most memory that decoding an image takes: of the largest with 16 bits a channel.
const MEMORY: u64 = 160 << 20;
/// Images decoded at a time.
const PLACES: usize = 2;

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn plain(width: u32, height: u32, pixel: [u8; 4]) -> DynamicImage {
        RgbaImage::from_pixel(width, height, Rgba(pixel)).into()
    }

    #[test]
    fn what_is_kept_is_a_png_no_larger_than_it_is_shown() {
        let red = plain(64, 32, [255, 0, 0, 128]);
        let jpeg = encoded(&DynamicImage::ImageRgb8(red.to_rgb8()), ImageFormat::Jpeg);
        let png = encoded(&red, ImageFormat::Png);
        let wide = encoded(&plain(2000, 20, [0, 0, 255, 255]), ImageFormat::Png);
        for (label, kind, bytes, size, first) in [
            ("PNG", ImageKind::Logo, &png, (64, 32), [255, 0, 0, 128]),
            ("JPEG", ImageKind::Slate, &jpeg, (64, 32), [254, 0, 0, 255]),
            (
                "over black",
                ImageKind::Slate,
                &png,
                (64, 32),
                [128, 0, 0, 255],
            ),
            ("wide", ImageKind::Logo, &wide, (1280, 13), [0, 0, 255, 255]),
            (
                "photo",
                ImageKind::Background,
                &wide,
                (1920, 19),
                [0, 0, 255, 255],
            ),
        ] {
            let (width, height, kept) = prepare(kind, bytes).unwrap();
            assert_eq!((width, height), size, "{label}");
            let seen = image::load_from_memory_with_format(&kept, ImageFormat::Png).unwrap();
            assert_eq!((seen.width(), seen.height()), size, "{label}");
            assert_eq!(seen.to_rgba8().get_pixel(3, 3).0, first, "{label}");
        }
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let png = encoded(&plain(64, 64, [9, 9, 9, 255]), ImageFormat::Png);
        let mut huge = png.clone();
        // The head of a PNG: its width.
        huge[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        let crc = crc(&huge[12..29]);
        huge[29..33].copy_from_slice(&crc.to_be_bytes());
        let tall = encoded(&plain(16, 4097, [0; 4]), ImageFormat::Png);
        let small = encoded(&plain(15, 64, [0; 4]), ImageFormat::Png);
        for (label, bytes, too_large) in [
            ("nothing", &b""[..], false),
            ("text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", false),
            ("GIF", b"GIF89a\x10\x00\x10\x00", false),
            ("cut", &png[..png.len() / 2], false),
            ("bomb", &huge, true),
            ("tall", &tall, true),
            ("small", &small, false),
        ] {
            let refused = prepare(ImageKind::Logo, bytes).unwrap_err();
            assert_eq!(
                matches!(refused, KeepError::TooLarge),
                too_large,
                "{label}: {refused}"
            );
        }
    }

    #[test]
    fn never_panics_on_broken_images() {
        let jpeg = encoded(
            &plain(40, 40, [9, 90, 9, 255]).to_rgb8().into(),
            ImageFormat::Jpeg,
        );
        let png = encoded(&plain(40, 40, [9, 90, 9, 255]), ImageFormat::Png);
        for whole in [jpeg, png] {
            for at in 0..whole.len() {
                let mut broken = whole.clone();
                broken[at] ^= 0x55;
                let _ = prepare(ImageKind::Logo, &broken);
                let _ = prepare(ImageKind::Logo, &whole[..at]);
            }
        }
    }

    #[tokio::test]
    async fn a_new_image_stands_beside_the_old_one_until_tidied() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = Gallery::new(folder.path().join("images"));
        let keep = |pixel| {
            let bytes = encoded(&plain(20, 20, pixel), ImageFormat::Png);
            gallery.keep(RoomId(3), ImageKind::Logo, bytes)
        };
        gallery.tidy(RoomId(3), ImageKind::Logo, None).await;
        let (one, two) = (keep([1; 4]).await.unwrap(), keep([2; 4]).await.unwrap());
        let exists = |image| gallery.file(RoomId(3), ImageKind::Logo, image).exists();
        assert_ne!(one, two);
        assert!(exists(&one) && exists(&two));
        gallery.tidy(RoomId(3), ImageKind::Slate, None).await;
        assert!(exists(&one));
        gallery.tidy(RoomId(3), ImageKind::Logo, Some(&two)).await;
        assert!(!exists(&one) && exists(&two));
    }

    /// As PNG computes it (ISO 3309).
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}
