//! Grey images inside a page.

/// A grey image of `width` columns as the address of an `img` element: a BMP file in base64. Pixels go
/// row by row, from 0, black, to 1, white.
pub(crate) fn data_uri(pixels: &[f32], width: usize) -> String {
    format!("data:image/bmp;base64,{}", base64(&bmp(pixels, width)))
}

/// A BMP file with a palette of 256 greys.
fn bmp(pixels: &[f32], width: usize) -> Vec<u8> {
    const HEADERS: u32 = 14 + 40;
    const PALETTE: u32 = 4 * 256;
    let rows: Vec<&[f32]> = pixels.chunks_exact(width.max(1)).collect();
    let row_bytes = width.next_multiple_of(4) as u32; // rows are padded
    let size = HEADERS + PALETTE + row_bytes * rows.len() as u32;
    let mut file = b"BM".to_vec();
    let mut words = |words: &[u32]| file.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    words(&[size, 0, HEADERS + PALETTE]);
    words(&[40, width as u32, rows.len() as u32]);
    words(&[1 | 8 << 16, 0, 0, 0, 0, 256, 0]); // one plane, 8 bits, not compressed
    (0..256).for_each(|grey| words(&[grey * 0x01_01_01]));
    for row in rows.iter().rev() {
        let grey = |p: &f32| (p.clamp(0.0, 1.0) * 255.0).round() as u8;
        file.extend(row.iter().map(grey));
        file.extend((row.len()..row_bytes as usize).map(|_| 0));
    }
    file
}

/// Base64 (RFC 4648), with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |k: usize| u32::from(chunk.get(k).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * k)) as usize & 63];
            text.push(if k <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[test]
fn base64_has_the_digits_and_the_padding_of_the_rfc() {
    let cases = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, coded) in cases {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
}

#[test]
fn an_image_has_its_rows_from_the_bottom() {
    let file = bmp(&[0.0, 0.5, 1.0, 1.0, 0.0, 0.25], 3);
    assert_eq!(file.len(), 54 + 1024 + 2 * 4);
    assert_eq!(file[2..6], (file.len() as u32).to_le_bytes());
    assert_eq!(file[54 + 1024..], [255, 0, 64, 0, 0, 128, 255, 0]);
}
