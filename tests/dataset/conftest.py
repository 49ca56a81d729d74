# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import cv2  # noqa: F401 - it sets LD_LIBRARY_PATH when it is imported first, which would look like a test's doing
