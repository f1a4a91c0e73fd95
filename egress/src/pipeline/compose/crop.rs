//! Cuts off the edges of a picture that is a little larger than its place: that costs nothing, and scaling it would
//! cost more than decoding it.

use gst_video::VideoFrameExt as _;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::layout::Rect;

/// Returns the middle of a picture in the size of its place, with its caps; `None` where the picture is not slightly
/// larger, or cannot be cut without copying it.
pub(crate) fn to(
    picture: &gst::Buffer,
    caps: &gst::Caps,
    place: Rect,
) -> Option<(gst::Buffer, gst::Caps)> {
    let info = gst_video::VideoInfo::from_caps(caps).ok()?;
    let (width, height) = (info.width(), info.height());
    let is_slight =
        |edge: u32, place: u32| (place..=place + place * SLIGHT_PERCENT / 100 + 1).contains(&edge);
    let is_same = (width, height) == (place.width, place.height);
    if is_same
        || info.format() != gst_video::VideoFormat::I420
        || !is_slight(width, place.width)
        || !is_slight(height, place.height)
    {
        return None;
    }
    let even = |n: u32| n / 2 * 2;
    let (left, top) = (
        even((width - place.width) / 2),
        even((height - place.height) / 2),
    );
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(picture, &info).ok()?;
    let (strides, offsets) = (frame.plane_stride(), frame.plane_offset());
    let mut starts = Vec::with_capacity(strides.len());
    for (plane, (stride, offset)) in (0..).zip(strides.iter().zip(offsets)) {
        let shift = u32::from(plane > 0);
        let start =
            usize::try_from(*stride).ok()? * (top >> shift) as usize + (left >> shift) as usize;
        starts.push(offset + start);
    }
    let whole = gst::BufferCopyFlags::MEMORY | gst::BufferCopyFlags::TIMESTAMPS;
    let mut cut = picture.copy_region(whole, ..).ok()?;
    gst_video::VideoMeta::add_full(
        cut.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        place.width,
        place.height,
        &starts,
        strides,
    )
    .ok()?;
    let mut caps = caps.copy();
    let size = caps.make_mut();
    size.set("width", i32::try_from(place.width).ok()?);
    size.set("height", i32::try_from(place.height).ok()?);
    Some((cut, caps))
}

/// How much may be missing of an edge: what a gap between tiles takes of half a picture.
const SLIGHT_PERCENT: u32 = 5;
